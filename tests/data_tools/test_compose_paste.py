"""Pasting a square back: at its place, to the fraction of a pixel, faded at its edge."""

import cv2
import numpy as np
import pytest

from data_tools.compose import fade, paste

RNG = np.random.default_rng(0)
PICTURE = cv2.GaussianBlur(RNG.integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 3)


def cut(picture, corner, side, size):
    shift = np.float64([[1, 0, -corner[0]], [0, 1, -corner[1]]])
    square = cv2.warpAffine(picture, shift, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if size < side else cv2.INTER_CUBIC)


@pytest.mark.parametrize("corner", [(20, 10), (20.37, 10.81), (0, 0), (70, 40), (69.5, 39.5)])
@pytest.mark.parametrize("size", [50, 100, 25])
def test_what_was_cut_out_goes_back_unseen(corner, size):
    face = cut(PICTURE, corner, 50, size)
    back = paste(PICTURE, face, np.array(corner, float), 50, 0.1)
    difference = np.abs(back.astype(int) - PICTURE)
    assert difference.mean() < 0.5 and difference.max() <= (14 if size < 50 else 6)


def test_only_the_square_changes_and_fully_in_its_middle():
    white = np.full((32, 32, 3), 255, np.uint8)
    back = paste(PICTURE, white, np.array([30.0, 20.0]), 40, 0.1)
    changed = np.zeros(PICTURE.shape[:2], bool)
    changed[20:60, 30:70] = True
    np.testing.assert_array_equal(back[~changed], PICTURE[~changed])
    assert (back[25:55, 35:65] == 255).all()
    edge = back[40, 30:36].mean(-1)
    assert edge[0] < 230 and edge[-1] > 245


def test_the_picture_itself_is_left_as_it_was():
    before = PICTURE.copy()
    paste(PICTURE, np.zeros((8, 8, 3), np.uint8), np.array([3.5, 4.5]), 40, 0.0)
    np.testing.assert_array_equal(PICTURE, before)


def test_fading_is_symmetric_and_stops_at_the_pictures_border():
    weight = fade(40, 0.2, (False, False, False, False))
    np.testing.assert_allclose(weight, weight.T)
    np.testing.assert_allclose(weight, weight[::-1, ::-1])
    assert weight[0, 0] < 0.01 and (weight[10:30, 10:30] == 1).all()
    border = fade(40, 0.2, (False, False, False, True))
    assert (border[-1, 10:30] == 1).all() and border[0, 20] < 0.1
    assert (fade(40, 0.0, (False,) * 4) == 1).all()


def test_nothing_is_faded_where_the_square_is_the_picture():
    face = np.full((90, 90, 3), 255, np.uint8)
    square = PICTURE[:, :90]
    assert (paste(square, face, np.array([0.0, 0.0]), 90, 0.2) == 255).all()
