"""The offset between mouth and sound: found where it can be, not believed where it can't."""

import numpy as np
import pytest

from data_tools.audio.offset import SPEECH_BANDS, Offset, estimate_offset, loudness, opening
from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import excerpt, recording
from data_tools.corpus.selection import CorpusSettings
from data_tools.landmarks68 import landmarks_from_motion
from geneface_jax.io import configs

REACH = 15


@pytest.fixture(scope="module")
def settings():
    return CorpusSettings.from_mapping(configs.load("corpus")).measure


def tracks(speaker: str, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    from data_tools.audio.sound import features_for_frames

    clip = excerpt(recording(speaker), 0.0, seconds)
    return opening(landmarks_from_motion(perform(clip).motion)), loudness(features_for_frames(clip.samples, clip.n_frames)[0])


@pytest.mark.parametrize("speaker", ["demo", "anna", "jonas"])
@pytest.mark.parametrize("late", [-12, -4, 0, 7])
def test_a_known_offset_is_found(speaker, late, settings):
    mouth, sound = tracks(speaker, 9.0)
    n = len(mouth) - 12
    found = estimate_offset(mouth[max(-late, 0) :][:n], sound[max(late, 0) :][:n], REACH)
    assert abs(found.lag - late) <= 1 and found.confident(settings)


def test_somebody_elses_sound_gives_no_offset_that_is_believed(settings):
    mouths, sounds = zip(*(tracks(speaker, 9.0) for speaker in ("demo", "anna", "bruno", "jonas")), strict=True)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    believed = [estimate_offset(mouths[i], sounds[j], REACH).confident(settings) for i, j in pairs]
    assert sum(believed) <= 1


def test_short_still_and_silent_clips_give_none():
    rng = np.random.default_rng(0)
    assert estimate_offset(rng.normal(size=40), rng.normal(size=40), REACH) == Offset(0, 0.0, 0.0)
    assert estimate_offset(np.ones(200), rng.normal(size=200), REACH).score == 0.0


def test_a_longer_clip_is_surer_at_the_same_correlation():
    rng = np.random.default_rng(0)
    track = np.convolve(rng.normal(size=420), np.ones(4), "valid")
    noisy = track + 2.0 * rng.normal(size=len(track))
    assert estimate_offset(track, noisy, REACH).score > 1.5 * estimate_offset(track[:100], noisy[:100], REACH).score


def test_loudness_hears_the_speech_band_alone():
    quiet = np.full((20, 80), -4.0)
    speech, hiss = quiet.copy(), quiet.copy()
    speech[:, SPEECH_BANDS], hiss[:, 70:] = -1.0, -1.0
    assert loudness(speech).shape == (10,)
    np.testing.assert_array_equal(loudness(hiss), loudness(quiet))
    assert np.all(loudness(speech) > 10 * loudness(quiet))
