import cv2
import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.face.track import (
    LOWER_LIP,
    UPPER_LIP,
    FaceTrack,
    check_gaps,
    check_rivals,
    detect_thoroughly,
    fill,
    follow,
    gaps_of,
    turn_of,
)
from data_tools.video import frames
from tests.data_tools.face.oval_face import face


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
        with pytest.raises(InputError, match="Two faces of similar size"):
            check_rivals(track)
    else:
        assert "ignored" in check_rivals(track)[0]


def test_no_face_is_refused():
    with pytest.raises(InputError, match="No face was found"):
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


# -------- Living persons and pictures of persons


def talking(x, height, rng):
    """A face whose lips and head move, or with rng None a picture of one, whose landmarks only tremble."""
    points = face(x, height=height)
    tremble = 2e-4 if rng is None else 0.0
    opening = 0.0 if rng is None else rng.uniform(0.0, 0.06) * height
    shift = 0.0 if rng is None else rng.normal(0.0, 0.02) * height
    points[LOWER_LIP, 1] = points[UPPER_LIP, 1] + opening
    points[LOWER_LIP, 0] = points[UPPER_LIP, 0]
    return points + np.float32(shift) + np.random.default_rng(7).normal(0, tremble * height, points.shape).astype(np.float32)


def test_the_face_that_moves_is_preferred_to_a_larger_picture_of_one():
    rng = np.random.default_rng(0)
    track = follow([np.stack([talking(0.25, 0.4, None), talking(0.7, 0.2, rng)]) for _ in range(20)])
    assert np.allclose(track.landmarks[:, :, 0].mean(1), 0.7, atol=0.05)
    assert track.pictures and not track.rival.any()
    assert check_rivals(track) == ["a face that never moves (a picture) was ignored"]


def test_two_living_faces_are_two_people_and_a_picture_alone_is_kept():
    rng = np.random.default_rng(0)
    track = follow([np.stack([talking(0.25, 0.21, rng), talking(0.7, 0.2, rng)]) for _ in range(20)])
    assert track.rival.min() > 0.9 and not track.pictures
    with pytest.raises(InputError, match="Two faces"):
        check_rivals(track)
    alone = follow([talking(0.25, 0.4, None)[None] for _ in range(20)])
    assert alone.found.all() and not alone.pictures


def test_a_passer_by_does_not_take_the_place_of_someone_who_sits_still():
    rng = np.random.default_rng(0)
    frames = [np.stack([talking(0.25, 0.4, None), *([talking(0.7, 0.2, rng)] if t < 7 else [])]) for t in range(20)]
    assert np.allclose(follow(frames).landmarks[:, :, 0].mean(1), 0.25, atol=0.02)


# -------- Advice that helps


@pytest.mark.parametrize(
    ("seen", "least", "words"),
    [
        ([(0, 100)], 3.0, r"--trim 0\.00-4\.00"),
        ([(0, 60)], 3.0, r"no stretch of 3 s shows it"),
        ([(0, 60)], 0.0, r"--trim 0\.00-2\.40"),
        ([], 0.0, r"no stretch of 1 s shows it"),
        ([], 3.0, r"no stretch of 3 s shows it"),
    ],
)
def test_a_trim_is_advised_only_if_it_helps(seen, least, words):
    found = np.zeros(150, bool)
    for first, end in seen:
        found[first:end] = True
    with pytest.raises(InputError, match=words) as refused:
        check_gaps(found, 25.0, least=least)
    assert "0.00-0.00" not in str(refused.value).split("s (more")[1]


def test_a_face_that_the_border_cuts_off_is_told_so():
    with pytest.raises(InputError, match=r"border of the picture.*whole head") as refused:
        check_gaps(np.zeros(100, bool), 25.0, cut_off=True)
    assert "--trim" not in str(refused.value)


# -------- Small and turned faces


@pytest.fixture(scope="module")
def person(mediapipe, avatar):
    """A picture of the avatar, 256x256, whose face takes 0.45 of it."""
    return next(frames(avatar / "video.mp4", (256, 256)))


@pytest.mark.parametrize("size", [(640, 360), (360, 640)])
@pytest.mark.parametrize("share", [0.1, 0.14, 0.18])
def test_small_faces_are_found_wherever_they_are(person, size, share):
    rng = np.random.default_rng(1)
    width, height = size
    wall = cv2.resize(rng.integers(60, 200, (height // 12, width // 12, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
    side = round(256 * share * height / 116)
    small = cv2.resize(person, (side, side), interpolation=cv2.INTER_AREA)
    places = [(0, 0), (width - side, 0), (0, height - side), (width - side, height - side), ((width - side) // 2, (height - side) // 2)]
    for x, y in places:
        scene = wall.copy()
        scene[y : y + side, x : x + side] = small
        track, (found,) = detect_thoroughly([scene], 5.0)
        assert len(found) == 1  # not twice, although the squares overlap
        np.testing.assert_allclose(found[0, :, :2].mean(0) * size, [x + side / 2, y + side / 2], atol=0.15 * side)
        assert track.small or share * height > 0.1 * max(size)


def test_no_face_is_seen_in_a_wall(mediapipe):
    rng = np.random.default_rng(2)
    walls = [cv2.resize(rng.integers(0, 255, (30, 50, 3), dtype=np.uint8), (640, 360), interpolation=cv2.INTER_CUBIC) for _ in range(3)]
    with pytest.raises(InputError, match="No face was found in any frame"):
        check_rivals(detect_thoroughly(walls, 5.0)[0])


def test_a_face_that_is_only_sometimes_a_small_one_is_none():
    track = follow([talking(0.3, 0.1, np.random.default_rng(i))[None] if i < 3 else np.zeros((0, 478, 3), np.float32) for i in range(20)])
    track.small = True
    with pytest.raises(InputError, match="in 85% of the frames"):
        check_rivals(track)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_person_who_lies_or_stands_on_the_head_is_noticed(person, turns):
    picture = np.ascontiguousarray(np.rot90(person, turns))
    assert turn_of([picture] * 2) == -turns * 90 % 360
    track, _ = detect_thoroughly([picture] * 6, 5.0)
    if turns:
        with pytest.raises(InputError, match=f"not upright.*by {-turns * 90 % 360} degrees counterclockwise"):
            check_rivals(track)
    else:
        check_rivals(track)
