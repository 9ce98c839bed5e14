"""Blink and amplitude conditions measured from constructed landmarks."""

import numpy as np
import pytest

from data_tools.landmarks68 import mean_face
from geneface_jax.data.motion import EYE_CORNERS, LIDS, OUTER_LIPS, blink_and_amplitude
from geneface_jax.data.speech_batches import NormalizedClip, cut_window, typical_amplitudes

UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]


def motion(frames, opening=0.0, shut=()):
    """The mean face with a mouth that is `opening` decimeters wider than at rest in every third frame, and shut eyes in some."""
    points = np.zeros((frames, 68, 3), np.float32)
    points[::3, 57, 1] -= 10.0 * opening
    face = mean_face()
    for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
        points[list(shut), upper] = 10.0 * (face[lower] - face[upper])
    return points.reshape(frames, 204)


@pytest.mark.parametrize("gap", [OUTER_LIPS, *LIDS, *EYE_CORNERS])
def test_the_distances_are_those_of_the_mean_face(gap):
    a, b, distance = gap
    np.testing.assert_allclose(distance, mean_face()[a] - mean_face()[b], atol=1e-4)


def test_the_mouths_amplitude_is_in_decimeters_and_adds_up_the_axes():
    rest = blink_and_amplitude(motion(30)).mouth_amp
    assert rest == pytest.approx(np.abs(mean_face()[51] - mean_face()[57]).sum(), abs=1e-4)
    assert blink_and_amplitude(motion(30, 0.2)).mouth_amp == pytest.approx(rest + 0.2, abs=1e-4)
    rare = motion(30)
    rare[4] = motion(3, 0.5)[0]
    assert blink_and_amplitude(rare).mouth_amp == pytest.approx(rest, abs=1e-4), "one frame of thirty is no habit"


def test_a_blink_is_the_middle_of_its_frames():
    found = blink_and_amplitude(motion(40, shut=[0, 10, 11, 12, 20, 21, 39]))
    np.testing.assert_array_equal(np.flatnonzero(found.blink), [0, 11, 20, 39])
    assert found.eye_amp == pytest.approx(np.mean([np.abs(np.array(gap[2])).sum() for gap in LIDS]), abs=1e-4)
    assert not blink_and_amplitude(motion(40)).blink.any()


def pair(frames, opening=0.0):
    moved = motion(frames, opening, shut=[frames - 2])
    f0 = np.arange(1, 2 * frames + 1, dtype=np.float32)
    return NormalizedClip(np.zeros((2 * frames, 82), np.float32), moved, "ada", f0, blink_and_amplitude(moved))


def test_windows_carry_the_voice_of_their_frames():
    whole = pair(20, 0.1)
    window = cut_window(whole, 16, 8)
    np.testing.assert_array_equal(window["f0"], [33, 34, 35, 36, 37, 38, 39, 40, *[0] * 8])
    np.testing.assert_array_equal(window["blink"], [0, 0, 1, 0, 0, 0, 0, 0])
    assert window["mouth_amp"] == np.float32(whole.behavior.mouth_amp) and window["eye_amp"].shape == ()


def test_typical_amplitudes_are_means_over_clips():
    pairs = [pair(12, opening) for opening in (0.0, 0.1, 0.5)]
    expected = np.mean([clip.behavior.mouth_amp for clip in pairs])
    assert typical_amplitudes(pairs)["mouth_amp"] == pytest.approx(expected, rel=1e-5)
