import numpy as np
import pytest

from data_tools.landmarks68 import eye_openness, face_box, lip_box


def test_boxes_are_never_empty_and_stay_inside():
    rng = np.random.default_rng(0)
    for shift in (-300.0, 0.0, 300.0):
        points = rng.uniform(0, 256, (20, 68, 2)) + shift
        for boxes in (face_box(points, 256), lip_box(points, 256)):
            assert boxes.dtype == np.int32
            assert (boxes >= 0).all() and (boxes <= 256).all()
            assert (boxes[:, 2:] - boxes[:, :2] >= 2).all()


def test_lip_box_is_a_square_one_fifth_larger_than_the_lips():
    points = np.zeros((1, 68, 2))
    points[0, 48:60] = 100.0
    points[0, 48], points[0, 54] = (80.0, 100.0), (120.0, 100.0)
    assert lip_box(points, 256).tolist() == [[76, 76, 124, 124]]


def test_eye_openness_is_gap_over_width():
    points = np.zeros((1, 68, 3))
    for first in (36, 42):
        points[0, first : first + 6, :2] = [(0, 0), (1, 0.5), (2, 0.5), (3, 0), (2, -0.4), (1, -0.4)]
    assert eye_openness(points)[0] == pytest.approx(0.3)
