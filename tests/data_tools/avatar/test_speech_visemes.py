"""Mouth parameters: rest in silence, closures that are seen, rounding that starts early, loudness that shows."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.avatar.speakers import PARAMETERS, VISEMES, Phoneme, frame_times, mouth_parameters, recording

NOISE = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)


def track(sounds: list[tuple[float, float, str]], samples: np.ndarray = NOISE, n_frames: int = 25) -> dict[str, np.ndarray]:
    values = mouth_parameters([Phoneme(*sound) for sound in sounds], samples, n_frames)
    assert values.shape == (n_frames, len(PARAMETERS)) and values.dtype == np.float32
    return dict(zip(PARAMETERS, values.T, strict=True))


def test_silence_is_a_shut_relaxed_mouth():
    for value in track([]).values():
        np.testing.assert_allclose(value, 0.0, atol=1e-6)


@pytest.mark.parametrize("sound", "pbm")
@pytest.mark.parametrize("offset", [0.0, 0.01, 0.02, 0.03])
def test_lips_close_in_at_least_one_frame_wherever_the_sound_falls(sound, offset):
    start = 0.4 + offset
    p = track([(0.1, start, "ɑː"), (start, start + 0.03, sound), (start + 0.03, 0.8, "ɑː")])
    middle = abs(frame_times(25) - start - 0.015) < 0.05
    assert p["close"][middle].max() == 1.0
    assert p["close"][~middle].max() < 0.9


def test_open_vowels_open_more_than_close_ones():
    opening = {ipa: track([(0.2, 0.8, ipa)])["jaw"][10:15].mean() for ipa in ("aː", "ɛ", "iː", "uː")}
    assert opening["aː"] > opening["ɛ"] > 1.3 * max(opening["iː"], opening["uː"])


def test_rounding_begins_before_the_rounded_vowel():
    after_s = {ipa: track([(0.2, 0.44, "s"), (0.44, 0.8, ipa)])["wide"] for ipa in ("uː", "iː")}
    last_s_frame = int(0.4 * 25)
    assert after_s["uː"][last_s_frame] < after_s["iː"][last_s_frame] - 0.2
    assert after_s["uː"][15] < -0.7 < 0.5 < after_s["iː"][15]


def test_a_diphthong_moves():
    jaw = track([(0.2, 0.8, "aɪ")])["jaw"]
    assert jaw[7] > jaw[17] + 0.2


def test_louder_speech_opens_the_jaw_more():
    samples = np.concatenate([0.1 * NOISE[:8000], NOISE[8000:]])
    jaw = track([(0.1, 0.9, "ɑː")], samples)["jaw"]
    assert jaw[17] > 1.1 * jaw[7]


def test_everything_stays_in_range_and_moves_at_human_speed():
    clip = recording("demo_heldout")
    values = mouth_parameters(clip.phonemes, clip.samples, clip.n_frames, expressiveness=1.2)
    low = np.where([name == "wide" for name in PARAMETERS], -1.0, 0.0)
    assert np.all(values >= low) and np.all(values <= 1.0)
    jaw = values[:, PARAMETERS.index("jaw")]
    assert 0.25 < jaw.max() and np.abs(np.diff(jaw)).max() < 0.45


def test_viseme_targets_are_in_range():
    for viseme in VISEMES.values():
        assert 0 <= viseme.jaw <= 1 and -1 <= viseme.wide <= 1 and viseme.open_strength > 0 and viseme.lip_strength > 0
