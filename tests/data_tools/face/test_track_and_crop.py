import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.face.crop import HEAD_FRACTION, choose_crop, head_extent
from data_tools.face.track import FaceTrack, check_gaps, check_rivals, fill, follow, gaps_of
from data_tools.landmarks68 import CHIN, FOREHEAD, eye_openness, face_box, lip_box


def face(x=0.5, y=0.5, height=0.2):
    """A 478-point oval in fractions of the picture."""
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    points = np.stack([x + 0.4 * height * np.sin(angle), y - 0.5 * height * np.cos(angle), 0 * angle], 1)
    points[[FOREHEAD, CHIN], :2] = [[x, y - height / 2], [x, y + height / 2]]
    return points.astype(np.float32)


def test_the_same_person_is_followed_although_the_order_changes():
    frames = [np.stack([face(0.3), face(0.7, height=0.15)][:: 1 if t % 2 else -1]) for t in range(20)]
    track = follow(frames)
    assert np.allclose(track.landmarks[:, :, 0].mean(1), 0.3, atol=0.01)
    assert np.allclose(track.rival, 0.75, atol=0.01)


def test_another_face_elsewhere_does_not_fill_a_gap():
    frames = [face(0.3)[None]] * 5 + [face(0.8)[None]] * 3 + [face(0.3)[None]] * 5
    assert gaps_of(follow(frames).found) == [(5, 8)]


@pytest.mark.parametrize(("rival", "share", "refused"), [(0.9, 0.5, True), (0.9, 0.1, False), (0.4, 1.0, False), (0.6, 0.3, True)])
def test_two_people_are_refused_only_when_similar_and_often(rival, share, refused):
    track = FaceTrack(np.repeat(face()[None], 100, 0), np.where(np.arange(100) < 100 * share, rival, 0.0).astype(np.float32))
    if refused:
        with pytest.raises(InputError, match="two faces"):
            check_rivals(track)
    else:
        assert "ignored" in check_rivals(track)[0]


def test_no_face_is_refused():
    with pytest.raises(InputError, match="no face"):
        check_rivals(follow([np.zeros((0, 478, 3), np.float32)] * 5))


def test_gaps_up_to_ten_frames_are_mended_longer_ones_named():
    found = np.ones(100, bool)
    found[20:30] = False
    assert "10 frames" in check_gaps(found, 25.0)[0]
    found[60:71] = False
    with pytest.raises(InputError, match=r"12\.40-12\.84 s.*--trim 10\.00-12\.40"):
        check_gaps(found, 25.0, start=10.0)
    assert check_gaps(np.ones(5, bool), 25.0) == []


def test_fill_is_linear_between_and_constant_at_the_ends():
    values = np.array([np.nan, 1.0, np.nan, np.nan, 4.0, np.nan])[:, None, None]
    np.testing.assert_allclose(fill(values)[:, 0, 0], [1, 1, 2, 3, 4, 4])


def test_a_well_framed_square_keeps_its_frame():
    box, fraction = choose_crop(face(height=0.45)[None] * 512, 512, 512)
    assert box == (0, 0, 512) or (box.x, box.y, box.size) == (0, 0, 512)
    assert fraction == pytest.approx(0.45 * 1.32, abs=0.01)


@pytest.mark.parametrize(("width", "height", "x", "y"), [(1080, 1920, 0.5, 0.2), (1920, 1080, 0.9, 0.4), (1280, 720, 0.05, 0.1)])
def test_crops_lie_inside_and_hold_the_head(width, height, x, y):
    side = min(width, height)
    faces = face(x=x * width / side, y=y * height / side, height=0.3)[None] * side
    box, fraction = choose_crop(faces, width, height)
    assert 0 <= box.x <= width - box.size and 0 <= box.y <= height - box.size
    left, top, right, bottom = np.clip(head_extent(faces)[0], 0, [width, height] * 2)
    assert box.x <= left + 1 and right - 1 <= box.x + box.size
    assert box.y <= top + 1 and bottom - 1 <= box.y + box.size
    assert fraction == pytest.approx(HEAD_FRACTION, abs=0.03)


def test_a_head_that_moves_gets_a_larger_square():
    still, moving = (np.stack([face(0.5 + s * t, height=0.2) * 1000 for t in np.linspace(-1, 1, 50)]) for s in (0.0, 0.3))
    assert choose_crop(moving, 1000, 1000)[0].size > choose_crop(still, 1000, 1000)[0].size


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
