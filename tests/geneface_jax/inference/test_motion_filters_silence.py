"""A mouth that rests where nobody speaks, and only there."""

import numpy as np
import pytest

from data_tools.landmarks68 import mean_face
from geneface_jax.inference.motion_filters import close_mouth_in_silence, loudness, most_closed_mouth, silence_weight


@pytest.fixture
def motion():
    return np.random.default_rng(0).normal(size=(30, 204)).astype(np.float32)


def test_loudness_is_the_level_of_each_frame():
    samples = np.repeat([0.1, 1.0, 0.0], 640)
    np.testing.assert_allclose(loudness(samples, 3), [-20.0, 0.0, -120.0], atol=1e-3)
    # A last frame that is half filled, sound that is too long, frames without sound.
    np.testing.assert_allclose(loudness(samples[:960], 2), [-20.0, -3.01], atol=1e-2)
    np.testing.assert_allclose(loudness(samples, 1), [-20.0], atol=1e-3)
    np.testing.assert_allclose(loudness(samples[:640], 2), [-20.0, -120.0], atol=1e-3)


def test_ramps_lie_inside_the_pause():
    level = np.full(30, -20.0)
    level[10:20] = -90.0
    weight = silence_weight(level, ramp=3)
    np.testing.assert_allclose(weight[10:20], [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3], rtol=1e-6)
    assert not weight[:10].any() and not weight[20:].any()
    np.testing.assert_array_equal(silence_weight(level, below_db=75.0), 0)
    np.testing.assert_allclose(silence_weight(level - 200.0)[4:-4], 1.0)  # below -100 dB all is silence


def test_silence_does_not_depend_on_the_recording_level():
    level = np.random.default_rng(0).uniform(-90, -10, 100)
    np.testing.assert_array_equal(silence_weight(level), silence_weight(level + 7.0))


def test_only_the_mouth_of_silent_frames_moves(motion):
    weight = np.zeros(30, np.float32)
    weight[10:20] = 1.0
    weight[9] = 0.25
    rest = np.full(204, 9.0, np.float32)
    closed, points = close_mouth_in_silence(motion, weight, rest).reshape(-1, 68, 3), motion.reshape(-1, 68, 3)
    np.testing.assert_array_equal(closed[:, :48], points[:, :48])
    np.testing.assert_array_equal(closed[:9], points[:9])
    np.testing.assert_array_equal(closed[20:], points[20:])
    np.testing.assert_allclose(closed[10:20, 48:], 9.0, atol=1e-5)
    np.testing.assert_allclose(closed[9, 48:], 0.75 * points[9, 48:] + 0.25 * 9.0, atol=1e-5)


def test_the_most_closed_mouth_is_closed():
    motion = np.zeros((40, 68, 3), np.float32)
    motion[:, [65, 66, 67], 1] = -np.linspace(2, 0, 40)[:, None]
    np.testing.assert_allclose(most_closed_mouth(motion.reshape(40, 204), mean_face()).reshape(68, 3)[66, 1], 0.0, atol=0.1)
