"""Encoding while frames come, and what a file says of its origin."""

import dataclasses
import os
import subprocess
import threading
import time

import numpy as np
import pytest

from data_tools.audio.sound import load_audio
from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable
from data_tools.video import read_video, write_video
from geneface_jax.inference import provenance
from geneface_jax.inference.provenance import Provenance
from geneface_jax.inference.streaming import encode

ORIGIN = Provenance("Anna <&> \x07 </rdf:RDF>", "0123456789abcdef", "Anna, 2026-11-21")


def moments(count, made=None, closed=None, pause=0.0):
    """Pictures that get brighter, and a tone."""
    try:
        for i in range(count):
            time.sleep(pause)
            if made is not None:
                made.append(i)
            yield np.full((64, 64, 3), 2 * i, np.uint8), (0.3 * np.sin(0.3 * np.arange(640 * i, 640 * (i + 1)))).astype(np.float32)
    finally:
        if closed is not None:
            closed.set()


def test_every_frame_and_sample_arrives_with_the_origin(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"".join(encode(moments(60), ORIGIN)))
    frames = list(read_video(path))
    assert len(frames) == 60
    assert max(abs(frame[32, 32].astype(int) - 2 * i).max() for i, frame in enumerate(frames)) < 8
    sound = load_audio(path)
    assert abs(len(sound) - 60 * 640) <= 1600 and np.abs(sound[2000:30000]).max() > 0.25
    assert provenance.read(path).model == "0123456789abcdef"


def test_the_first_pieces_leave_long_before_the_last_frame_is_made():
    made = []
    pieces = encode(moments(100, made, pause=0.02))
    data = b""
    while b"moof" not in data:
        data += next(pieces)
    assert len(made) < 60 and data[4:8] == b"ftyp"
    pieces.close()


def test_a_viewer_who_leaves_ends_ffmpeg_and_the_rendering():
    made, closed = [], threading.Event()
    before = _ffmpegs()
    pieces = encode(moments(100_000, made, closed))
    next(pieces)
    pieces.close()
    assert closed.wait(5) and len(made) < 5000 and _ffmpegs() <= before


def test_a_slow_viewer_holds_the_rendering_back():
    """Memory stays bounded: nobody reads, so nobody draws."""
    made = []
    noise = np.random.default_rng(0).integers(0, 255, (16, 256, 256, 3), dtype=np.uint8)
    pieces = encode((made.append(i) or (noise[i % 16], np.zeros(640, np.float32))) for i in range(2000))
    next(pieces)
    time.sleep(2.0)
    seen = len(made)
    time.sleep(1.0)
    assert len(made) == seen < 200
    pieces.close()


def test_what_the_frames_raise_is_raised_and_bad_sizes_are_sentences():
    def broken():
        yield from moments(10)
        raise RuntimeError("out of frames")

    with pytest.raises(RuntimeError, match="out of frames"):
        list(encode(broken()))
    with pytest.raises(InputError, match="not a single frame"):
        list(encode(iter(())))
    with pytest.raises(InputError, match="even"):
        list(encode(iter([(np.zeros((63, 64, 3), np.uint8), np.zeros(640, np.float32))])))


def test_a_stamp_changes_nothing_that_plays_and_is_replaced_by_the_next(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, [np.full((64, 64, 3), 4 * i, np.uint8) for i in range(20)], None)
    assert provenance.read(path) is None
    plain, pictures = path.read_bytes(), list(read_video(path))
    provenance.stamp(path, ORIGIN)
    provenance.stamp(path, dataclasses.replace(ORIGIN, consent="Bert, today"))
    found = provenance.read(path)
    assert found.consent == "Bert, today" and found.person == "Anna <&>   </rdf:RDF>"
    assert found.source_type.endswith("/trainedAlgorithmicMedia") and found.tool.startswith("geneface_jax ")
    assert path.read_bytes().startswith(plain) and path.read_bytes().count(provenance.XMP_UUID) == 1
    assert all(np.array_equal(a, b) for a, b in zip(pictures, read_video(path), strict=True))
    assert not [p for p in tmp_path.iterdir() if p != path]
    # A strict reader has nothing to say either.
    command = [ffmpeg_executable(), "-v", "warning", "-err_detect", "explode", "-i", str(path), "-f", "null", "-"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


@pytest.mark.parametrize("data", [b"no mp4 at all, but long enough", b"\x00\x00\x00\x18ftypmp42" + bytes(4)])
def test_a_file_that_is_no_mp4_is_left_alone(tmp_path, data):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    for touch in (lambda: provenance.stamp(path, ORIGIN), lambda: provenance.read(path)):
        with pytest.raises(InputError, match="no mp4"):
            touch()
    assert path.read_bytes() == data


def _ffmpegs():
    """Processes of ours that run ffmpeg."""
    listed = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True).stdout
    return listed.count("rawvideo")
