"""The crop tool on the avatar, walking through a wide picture: the square holds the head, is noted, and follows when asked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools import crop as module
from data_tools.command_line import run_command
from data_tools.crop import crop
from data_tools.encoder import EncoderOptions
from data_tools.errors import InputError
from data_tools.face.crop import HEAD_FRACTION, follow_crop, head_extent, load_record, record_path
from data_tools.ffmpeg import probe
from data_tools.video import Box, frames, read_video

WIDTH, HEIGHT = 480, 320
SPEED = 40.0
"""Pixels a second that the avatar moves to the right."""


@pytest.fixture(scope="module")
def walk(mediapipe, avatar, tmp_path_factory):
    """3 s of the avatar at 256x256 moving through a grey picture."""
    path = tmp_path_factory.mktemp("walk") / "a walk.mp4"
    ffmpeg("-f", "lavfi", "-i", f"color=0x8a948c:s={WIDTH}x{HEIGHT}:r=25:d=3", "-i", avatar / "video.mp4", "-filter_complex",
           f"[0][1]overlay=x='40+{SPEED}*t':y=40:shortest=1", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-t", "3",
           "-c:a", "copy", path)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def fixed(walk, tmp_path_factory):
    out = tmp_path_factory.mktemp("fixed") / "face.mp4"
    return out, crop(walk, out, size=128, options=EncoderOptions(crf=6))


@pytest.fixture(scope="module")
def following(walk, tmp_path_factory):
    out = tmp_path_factory.mktemp("following") / "face.mp4"
    return out, crop(walk, out, size=128, follow=True, options=EncoderOptions(crf=6))


def test_a_fixed_square_lies_inside_and_shows_what_the_record_says(walk, fixed):
    out, record = fixed
    (x, y), side = record.corners[0], record.side
    assert not record.moves and 0 <= x <= WIDTH - side and 0 <= y <= HEIGHT - side and record.frames == 75
    assert side > 200  # the head's whole range, not the first frame's
    source, cut = next(frames(walk, (WIDTH, HEIGHT))), next(read_video(out))
    square = source[int(y) : int(y) + side, int(x) : int(x) + side]
    assert cut.shape == (128, 128, 3) and abs(float(cut.mean()) - square.mean()) < 2
    info = probe(out)
    assert info.fps == 25.0 and info.audio is not None and abs(info.seconds - 3.0) < 0.1


def test_the_crop_record_is_read_back(fixed, walk):
    out, record = fixed
    found = load_record(out)
    np.testing.assert_array_equal(found.corners, record.corners)
    assert (found.width, found.height, found.side, found.frames) == (WIDTH, HEIGHT, record.side, 75)
    assert json.loads(record_path(out).read_text())["source"]["file"] == walk.name


def test_a_following_square_goes_with_the_head_smoothly(following):
    _, record = following
    corners = record.corners
    assert record.moves and len(corners) == record.frames == 75
    inside = np.array([WIDTH, HEIGHT]) - record.side
    assert (corners >= 0).all() and (corners <= inside).all()
    middle = corners[20:55, 0]
    assert abs(np.diff(middle).mean() * 25 - SPEED) < 8
    assert np.abs(np.diff(corners[:70], 2, axis=0)).max() < 0.15  # pixels per frame squared: nothing jumps


def test_following_shows_a_head_that_stays(mediapipe, fixed, following):
    from data_tools.face.track import detect

    spread = []
    for out, _ in (fixed, following):
        track = detect(frames(out, (128, 128), fps=5), 5)
        spread.append(np.ptp(np.nanmean(track.landmarks[2:-2, :, 0], axis=1)) * 128)
    assert spread[1] < 0.4 * spread[0]


def test_the_path_keeps_its_size_and_ignores_one_bad_detection():
    rng = np.random.default_rng(0)
    face = rng.uniform(-0.5, 0.5, (478, 2)) * [80, 100]
    face[10], face[152] = (0, -50), (0, 50)
    faces = face + np.linspace([200, 150], [300, 160], 60)[:, None]
    bad = faces.copy()
    bad[30] += 90
    (path, side), (with_bad, _) = follow_crop(faces, 640, 360, 10.0), follow_crop(bad, 640, 360, 10.0)
    head = np.median(np.diff(head_extent(faces)[:, [1, 3]], axis=1))
    assert side == pytest.approx(head / HEAD_FRACTION, abs=2) and side % 2 == 0
    assert np.abs(path - with_bad).max() < 2.0
    tiny, small_side = follow_crop(faces, 200, 120, 10.0)
    assert small_side == 120 and (tiny >= 0).all() and (tiny <= [80, 0]).all()


def test_alpha_cuts_the_person_out(walk, tmp_path):
    import cv2

    record = crop(walk, tmp_path / "cutout", size=128, trim="0-1", alpha=True)
    picture = cv2.imread(str(tmp_path / "cutout" / "000012.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (128, 128, 4) and record.frames == 25 and (tmp_path / "cutout.crop.json").is_file()
    assert picture[60:70, 60:70, 3].mean() > 240 and picture[:8, :8, 3].mean() < 30


def test_trim_and_rate_are_noted(walk, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_corners", lambda *_: (np.array([[40.0, 40.0]]), 200))
    record = crop(walk, tmp_path / "a.mp4", size=64, trim=(1.0, 2.0), fps=12.5)
    assert (record.start, record.fps, record.frames) == (1.0, 12.5, 12) or (record.start, record.fps, record.frames) == (1.0, 12.5, 13)
    whole = list(frames(walk, (64, 64), crop=Box(40, 40, 200)))
    assert np.abs(next(read_video(tmp_path / "a.mp4")).astype(int) - whole[25]).mean() < 5


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"size": 63}, "a.mp4", "--size 63"),
        ({"fps": 0}, "a.mp4", "--fps 0"),
        ({"trim": "9-10"}, "a.mp4", "--trim begins at 9 s"),
        ({"options": EncoderOptions(pix_fmt="rgba")}, "a.mp4", "--alpha"),
        ({"alpha": True}, "a.mp4", r"\.webm"),
    ],
)
def test_bad_requests_are_refused_before_the_face_is_looked_for(walk, tmp_path, monkeypatch, changes, name, words):
    monkeypatch.setattr(module, "_corners", lambda *_: pytest.fail("looked for the face"))
    with pytest.raises(InputError, match=words):
        crop(walk, tmp_path / name, **changes)
    assert not list(tmp_path.iterdir())


def run(*words):
    command = [sys.executable, "-m", "data_tools.crop", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(module.__file__).parents[1])


def test_the_command_line_refuses_with_one_sentence_and_exit_code_2(tmp_path, capsys):
    words = [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), "--crf", "18", "--bitrate", "1M"]
    assert run_command(lambda: module, "geneface crop", words) == 2
    message = capsys.readouterr().err
    assert message.startswith("geneface crop: ") and "give one of them" in message and message.count("\n") == 1
    result = run(str(tmp_path / "absent.mp4"), str(tmp_path / "a.mp4"))
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "absent.mp4" in result.stderr


def test_help_runs_as_a_module():
    text = run("--help").stdout
    for flag in (
        "--crf",
        "--preset",
        "--bitrate",
        "--maxrate",
        "--bufsize",
        "--pix-fmt",
        "--fps",
        "--size",
        "--recipe",
        "--alpha",
        "--follow",
    ):
        assert flag in text
