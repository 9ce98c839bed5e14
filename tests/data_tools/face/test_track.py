import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.face.track import FaceTrack, check_gaps, check_rivals, fill, follow, gaps_of
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
