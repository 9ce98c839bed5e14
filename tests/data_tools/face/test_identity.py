"""Clips nobody should train on: another person takes over, a photo speaks, the face leaves the picture."""

import json

import cv2
import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools.avatar.clip import render_clip
from data_tools.errors import InputError
from data_tools.face.identity import ANOTHER_PERSON, STILL_LIPS, FacePictures, check_faults, find_faults, identity_change
from data_tools.face.track import detect_thoroughly, lip_range
from data_tools.prepare import prepare
from data_tools.video import frames

GOOD = {"roll": 1.0, "cut_off": 0.0, "lips": 0.05, "another_person": 1.0, "another_after": 2.0}
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A clip of 4 s of the speaker who looks least like the first: the avatars are more alike than people are."""
    return render_clip(tmp_path_factory.mktemp("other") / "clip", speaker="felix", size=256, seconds=4.0) / "video.mp4"


def looked_at(pictures):
    """Track and patches of pictures, five a second."""
    seen = FacePictures()
    track, faces = detect_thoroughly(pictures, 5.0, seen)
    return track, seen.of(track, faces)


@pytest.fixture(scope="module")
def two(mediapipe, avatar, other):
    return [list(frames(path, (256, 256), fps=5)) for path in (avatar / "video.mp4", other)]


def difference(pictures):
    track, patches = looked_at(pictures)
    return identity_change(track.landmarks * 256, patches)


def test_one_person_stays_the_same_and_light_is_no_other_person(two):
    for pictures in two:
        assert difference(pictures)[0] < 2.4
        darker = [np.clip(frame * 0.6 + 5, 0, 255).astype(np.uint8) for frame in pictures[10:]]
        assert difference(pictures[:10] + darker)[0] < 2.6


def test_another_person_is_seen_with_the_time(two):
    score, frame = difference(two[0] + two[1])
    assert score > ANOTHER_PERSON and abs(frame - 20) <= 1


def test_too_little_is_no_evidence(two):
    assert difference(two[0][:11]) is None
    small = [cv2.copyMakeBorder(cv2.resize(frame, (90, 90)), 83, 83, 83, 83, cv2.BORDER_REPLICATE) for frame in two[0]]
    track, patches = looked_at(small)
    assert find_faults(track, (256, 256), patches, 5.0)["another_person"] is None


def test_the_collected_pictures_stay_few(monkeypatch):
    monkeypatch.setattr(FacePictures, "MOST_FRAMES", 8)
    seen, face = FacePictures(), np.random.default_rng(0).uniform(0.3, 0.7, (1, 478, 3)).astype(np.float32)
    for _ in range(100):
        seen(np.zeros((32, 32, 3), np.uint8), face)
    assert len(seen._patches) <= 8 and all(number % seen._every == 0 for number in seen._patches)


def test_lips_that_move_do_not_do_so_in_a_photo(two):
    track, _ = looked_at(two[0])
    still, patches = looked_at(two[0][:1] * 12)
    assert lip_range(track.landmarks, np.ones(3)) > 0.03 and lip_range(still.landmarks, np.ones(3)) < STILL_LIPS
    with pytest.raises(InputError, match=r"lips never move.*person speaks"):
        check_faults(find_faults(still, (256, 256), patches, 5.0), 0.0, 4.0, 3.0)
    short, patches = looked_at(two[0][:1] * 6)
    check_faults(find_faults(short, (256, 256), patches, 5.0), 0.0, 1.2, 0.4)  # a pause


def test_a_face_that_leaves_the_picture_is_measured(two):
    beyond, patches = looked_at([np.ascontiguousarray(frame[:, 90:]) for frame in two[0]])
    assert find_faults(beyond, (166, 256), patches, 5.0)["cut_off"] > 0.9
    whole, patches = looked_at(two[0])
    assert find_faults(whole, (256, 256), patches, 5.0)["cut_off"] == 0.0


@pytest.mark.parametrize(
    ("after", "seconds", "advice"),
    [(5.0, 20.0, r"`--trim 16\.00-30\.00`"), (12.0, 20.0, r"`--trim 10\.00-21\.00`"), (2.0, 5.0, r"person's: use a video of one person")],
)
def test_the_trim_that_is_advised_keeps_the_longer_part(after, seconds, advice):
    with pytest.raises(InputError, match=advice):
        check_faults(GOOD | {"another_person": 4.0, "another_after": after}, 10.0, seconds, 3.0)
    check_faults(GOOD, 10.0, seconds, 3.0)
    check_faults(GOOD | {"another_person": None, "another_after": None}, 0.0, seconds, 3.0)


def test_prepare_refuses_a_cross_fade_to_another_person(mediapipe, avatar, other, tmp_path):
    fade = "[0:v]settb=AVTB,fps=25[a];[1:v]settb=AVTB,fps=25[b];[a][b]xfade=duration=1.2:offset=2.4[v];[0:a][1:a]concat=v=0:a=1[s]"
    path = tmp_path / "fade.mp4"
    ffmpeg("-i", avatar / "video.mp4", "-i", other, "-filter_complex", fade, "-map", "[v]", "-map", "[s]", *H264, "-t", "5.4", path)
    with pytest.raises(InputError, match=r"From about [23]\.\d s on the face is another person's"):
        prepare(path, tmp_path / "dataset", size=64, progress=False)
    assert not (tmp_path / "dataset").exists()


def test_prepare_warns_of_what_is_only_doubtful(mediapipe, avatar, tmp_path, caplog):
    """The picture's border cuts off the chin: a red light in the report and a line in the log."""
    path = tmp_path / "cut.mp4"
    ffmpeg("-i", avatar / "video.mp4", "-vf", "crop=256:180:0:0", *H264, "-c:a", "copy", path)
    with caplog.at_level("WARNING"):
        dataset = prepare(path, tmp_path / "dataset", size=64)
    facts = json.loads((dataset / "report.json").read_text(encoding="utf-8"))
    assert facts["lights"]["face_cut_off"] == "poor" and "face leaves the picture" in caplog.text
    assert facts["lights"]["head_tilt_deg"] == "good" and facts["values"]["another_person"] < 2.4
