"""The offset between mouth and sound: found where it can be, to a fraction of a frame, and not believed where it can't."""

import numpy as np
import pytest

from data_tools.audio.offset import NO_OFFSET, Offset, estimate_offset, opening
from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import excerpt, recording
from data_tools.corpus.selection import CorpusSettings
from data_tools.landmarks68 import landmarks_from_motion
from geneface_jax.io import configs

REACH = 15


@pytest.fixture(scope="module")
def settings():
    return CorpusSettings.from_mapping(configs.load("corpus")).measure


def tracks(speaker: str, seconds: float, late: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A mouth that is `late` frames behind, and a prediction as good as one from sound: smoother, with errors (correlation about 0.6)."""
    mouth = opening(landmarks_from_motion(perform(excerpt(recording(speaker), 0.0, seconds)).motion))
    rng = np.random.default_rng(0)
    errors = np.convolve(rng.normal(size=len(mouth) + 4), np.ones(5) / 5**0.5, "valid")
    predicted = mouth + 1.2 * mouth.std() * errors
    frames = np.arange(len(mouth))
    return np.interp(frames - late, frames, mouth), predicted


@pytest.mark.parametrize("speaker", ["demo", "anna", "jonas"])
@pytest.mark.parametrize("late", [-12.0, -3.6, 0.0, 0.4, 7.3])
def test_a_known_offset_is_found(speaker, late, settings):
    found = estimate_offset(*tracks(speaker, 8.0, late), REACH)
    assert found.confident(settings) and abs(found.lag - late) <= 0.5


def test_the_peak_lies_between_the_frames():
    mouth, _ = tracks("demo", 8.0)
    frames = np.arange(len(mouth))
    lags = [estimate_offset(np.interp(frames - late, frames, mouth), mouth, REACH).lag for late in (0.0, 0.25, 0.5, 0.75, 1.0)]
    np.testing.assert_allclose(lags, [0.0, 0.25, 0.5, 0.75, 1.0], atol=0.13)


def test_somebody_elses_sound_gives_no_offset_that_is_believed(settings):
    speakers = ("demo", "anna", "bruno", "jonas")
    mouths, predicted = zip(*(tracks(speaker, 8.0) for speaker in speakers), strict=True)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    believed = [estimate_offset(mouths[i], predicted[j], REACH).confident(settings) for i, j in pairs]
    assert sum(believed) <= 1


def test_short_still_and_silent_clips_give_none():
    rng = np.random.default_rng(0)
    assert estimate_offset(rng.normal(size=40), rng.normal(size=40), REACH) == NO_OFFSET == Offset(0.0, 0.0, 0.0)
    assert estimate_offset(np.ones(200), rng.normal(size=200), REACH).score == 0.0


def test_a_longer_clip_is_surer_at_the_same_correlation():
    rng = np.random.default_rng(0)
    track = np.convolve(rng.normal(size=420), np.ones(4), "valid")
    noisy = track + 2.0 * rng.normal(size=len(track))
    assert estimate_offset(track, noisy, REACH).score > 1.5 * estimate_offset(track[:100], noisy[:100], REACH).score
