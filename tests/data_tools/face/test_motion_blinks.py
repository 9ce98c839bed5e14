import numpy as np
import pytest

from data_tools.face.pose import find_blinks


def eyes(blinks, n_frames=500, depth=0.9, seed=0):
    """Openness of eyes with blinks of five frames at the given frames, noise, and slow changes."""
    t = np.arange(n_frames)
    openness = 0.3 + 0.03 * np.sin(t / 80.0) + 0.005 * np.random.default_rng(seed).normal(size=n_frames)
    for frame in blinks:
        openness -= depth * 0.3 * np.exp(-0.5 * ((t - frame) / 1.5) ** 2)
    return openness


def test_each_blink_is_found_once_at_its_middle():
    found = find_blinks(eyes([40, 150, 156, 300, 420]), 25.0)
    assert np.abs(found - [40, 150, 156, 300, 420]).max() <= 1


STILL = [eyes([]), eyes([100, 200], depth=0.35), np.full(200, 0.3), np.zeros(50), 0.3 - 0.001 * np.arange(250)]


@pytest.mark.parametrize("openness", STILL)
def test_lowered_eyes_and_noise_are_no_blinks(openness):
    assert len(find_blinks(openness, 25.0)) == 0
