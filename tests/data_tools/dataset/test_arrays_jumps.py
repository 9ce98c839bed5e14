import numpy as np

from data_tools.dataset.arrays import describe_jumps
from data_tools.landmarks68 import CHIN, FOREHEAD


def test_a_jump_of_the_head_is_noted():
    rng = np.random.default_rng(0)
    landmarks = np.cumsum(0.3 * rng.normal(size=(200, 1, 2)), axis=0) + np.zeros((200, 478, 2))
    landmarks[:, FOREHEAD] += [0.0, -100.0]
    landmarks[:, CHIN] += [0.0, 100.0]
    assert describe_jumps(landmarks, 25.0) == []
    landmarks[80:] += 60.0
    assert "3.20 s" in describe_jumps(landmarks, 25.0)[0]


def test_a_fast_turn_is_no_jump():
    center = np.cumsum(np.where(abs(np.arange(200) - 100) < 15, 25.0, 0.5))
    landmarks = np.zeros((200, 478, 2)) + np.stack([center, 0 * center], 1)[:, None]
    landmarks[:, FOREHEAD] += [0.0, -100.0]
    landmarks[:, CHIN] += [0.0, 100.0]
    assert describe_jumps(landmarks, 25.0) == []
