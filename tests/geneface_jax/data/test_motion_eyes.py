"""Eye boxes contain the eyes, and closed-eye frames are found."""

import numpy as np

from geneface_jax.data.motion import count_blinks, eye_boxes, shut_frames, shut_share
from geneface_jax.data.pixel_sampling import Region, draw_frames, draw_pixels, in_boxes


def test_boxes_hold_both_eyes_with_a_margin_and_stay_in_the_picture():
    points = np.zeros((3, 68, 2))
    points[:, 36:42] = np.array([20, 30]) + np.array([[0, 0], [3, -2], [7, -2], [10, 0], [7, 2], [3, 2]])
    points[:, 42:48] = points[:, 36:42] + [30, 1]
    points[2] -= [100, 0]
    right, left = eye_boxes(points, 64)
    np.testing.assert_array_equal(right[0], [16, 24, 34, 36])
    np.testing.assert_array_equal(left[0], [46, 25, 64, 37])
    assert (right[2] == [0, 24, 1, 36]).all() and ((right[:, 2:] > right[:, :2]).all() and (left[:, 2:] > left[:, :2]).all())


def test_shut_frames_are_the_blinks_whatever_the_unit():
    openness = np.full(200, 0.28)
    openness[[50, 51, 52]] = [0.12, 0.04, 0.2]
    openness[120:124] = 0.05
    candidates = np.arange(100, 180)
    np.testing.assert_array_equal(shut_frames(openness, np.arange(200)), [50, 51, 120, 121, 122, 123])
    np.testing.assert_array_equal(shut_frames(100 * openness, candidates), [120, 121, 122, 123])


def test_a_person_who_never_blinks_has_none():
    openness = 0.28 + 0.02 * np.sin(np.arange(300))
    assert len(shut_frames(openness, np.arange(300))) == 0
    assert len(shut_frames(openness, np.arange(0))) == 0
    assert count_blinks(openness) == 0 == count_blinks(openness[:0])


def test_blinks_are_counted_once_each():
    openness = np.full(100, 0.3)
    openness[0] = openness[30:33] = openness[60:67] = 0.05
    assert count_blinks(openness) == 3


def test_few_blinks_are_not_shown_over_and_over():
    assert shut_share(0.125, np.arange(50), np.arange(1000)) == 0.125
    assert shut_share(0.125, np.arange(6), np.arange(600)) == 0.03
    assert shut_share(0.125, np.arange(0), np.arange(0)) == 0.0


def test_shut_frames_and_eye_pixels_get_their_share():
    """On average, also where the share of a batch is less than one frame."""
    candidates, rare = np.arange(1000), np.arange(2000, 2003)
    drawn = np.stack([draw_frames(np.random.default_rng(i), candidates, 8, rare, 0.05) for i in range(500)])
    assert drawn.shape == (500, 8) and 0.03 < (drawn >= 2000).mean() < 0.07
    assert (np.stack([draw_frames(np.random.default_rng(i), candidates, 8, rare[:0], 0.5) for i in range(50)]) < 1000).all()
    assert (draw_frames(np.random.default_rng(0), candidates, 8, rare, 0.5) >= 2000).sum() == 4
    boxes = np.array([[10, 10, 14, 12]], np.int32)
    pixels = draw_pixels(np.random.default_rng(0), np.zeros(1, int), 1000, (64, 64), [Region(0.3, boxes)])
    assert 0.3 <= in_boxes(pixels, boxes).mean() < 0.32
