"""Neck boxes around the border between head and torso."""

import numpy as np

from geneface_jax.data.pixel_sampling import STRIDE, neck_boxes


def test_the_box_holds_the_border_and_little_else():
    head, torso = np.zeros((2, 64, 64), np.uint8), np.zeros((2, 64, 64), np.uint8)
    head[0, 10:40, 20:44] = 255
    torso[0, 30:64, 10:54] = 255
    torso[1, 30:64, 10:54] = 255
    first, second = neck_boxes(head, torso, 8.0)
    x0, y0, x1, y1 = first
    assert y0 <= 40 - STRIDE and 40 < y1 <= 40 + 8 + 2 * STRIDE
    assert 20 - 8 - 2 * STRIDE <= x0 <= 20 and 44 <= x1 <= 44 + 8 + 2 * STRIDE
    np.testing.assert_array_equal(second, [0, 0, 64, 64])


def test_boxes_stay_inside_pictures_whose_side_is_no_multiple_of_the_stride():
    head, torso = np.zeros((1, 30, 30), np.uint8), np.full((1, 30, 30), 255, np.uint8)
    head[:, :28] = 255
    x0, y0, x1, y1 = neck_boxes(head, torso, 4.0)[0]
    assert 0 <= x0 < x1 <= 30 and 0 <= y0 < y1 <= 30
