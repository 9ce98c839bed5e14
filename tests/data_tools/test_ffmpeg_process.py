"""ffmpeg is never waited for without a limit, nor is all kept that it says: programs that misbehave stand for it."""

import os
import time

import numpy as np
import pytest
from synthetic_video import color_video

from data_tools import ffmpeg
from data_tools.audio.sound import load_audio
from data_tools.errors import InputError
from data_tools.ffmpeg import Process, ffmpeg_executable, probe, unsuitable
from data_tools.video import VideoWriter, frames, read_video


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a shell script stand for ffmpeg, with half a second of patience."""

    def make(script: str) -> str:
        path = tmp_path / "fake-ffmpeg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(ffmpeg, "ffmpeg_executable", lambda: str(path))
        monkeypatch.setattr(ffmpeg, "PATIENCE", 0.5)
        return str(path)

    return make


def test_a_program_that_gives_nothing_is_stopped(program):
    program("exec sleep 60")
    started = time.monotonic()
    with Process(["-i", "x"]) as process:
        assert process.read(100) == b"" and not process.finish()
        assert "it did nothing" in process.complaint()
    assert time.monotonic() - started < 5


def test_a_program_that_moves_on_is_not(program):
    program("for i in 1 2 3 4 5 6 7; do printf x; sleep 0.2; done")
    with Process([]) as process:
        assert b"".join(iter(lambda: process.read(1), b"")) == b"xxxxxxx" and process.finish()


def test_a_reader_that_stops_early_does_not_wait_for_the_rest(program):
    """As a 16-bit picture did: its reader stopped at the unknown header, while the program waited for the reader."""
    program("exec cat /dev/zero")
    started = time.monotonic()
    with Process([], patience=60) as process:
        assert process.read(5) == bytes(5)
        assert not process.finish()
    assert time.monotonic() - started < 5


def test_messages_without_end_are_not_kept(program):
    program("yes 'a message that is repeated' | head -c 5000000 >&2; exit 3")
    with Process([]) as process:
        assert not process.finish()
        assert len(process.messages) == 1 << 16 and process.complaint() == "a message that is repeated"


def test_a_program_that_takes_no_pictures_is_stopped(program):
    program("exec sleep 60")
    started = time.monotonic()
    with Process([], feed=True) as process, pytest.raises(BrokenPipeError):
        for _ in range(100):
            process.write(bytes(1 << 20))
    assert process.stalled and time.monotonic() - started < 5


def test_every_reader_and_writer_ends_with_a_sentence(program, tmp_path):
    path = color_video(tmp_path / "v.mp4", seconds=0.2, size="64x64")
    program("exec sleep 60")
    for call in (lambda: probe(path), lambda: list(read_video(path)), lambda: next(frames(path, (64, 64))), lambda: load_audio(path)):
        with pytest.raises(InputError):
            call()
    with pytest.raises(InputError, match="it did nothing"), VideoWriter(tmp_path / "out.mp4", None) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("ffmpeg version 3.4.8-0ubuntu0.2 Copyright\nconfiguration: --enable-libx264", "is version 3.4, older than 4.2"),
        ("ffmpeg version n4.1 Copyright\nconfiguration: --enable-libx264", "is version 4.1, older than 4.2"),
        ("ffmpeg version 6.0 Copyright\nconfiguration: --disable-gpl", "has no libx264, which encodes the videos"),
        ("ffmpeg version 4.2.2-static\nconfiguration: --enable-libx264", ""),
        ("ffmpeg version N-109542-gde2a0d1\nconfiguration: --enable-libx264", ""),
    ],
)
def test_an_ffmpeg_that_can_not_do_the_work_is_passed_over(program, version, reason):
    assert unsuitable(program(f"cat <<'END'\n{version}\nEND")) == reason


def test_what_can_not_be_run_is_passed_over(tmp_path, monkeypatch):
    bad = tmp_path / "ffmpeg"
    bad.write_text("#!/bin/sh\nexit 1\n")
    bad.chmod(0o755)
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    ffmpeg_executable.cache_clear()
    try:
        assert ffmpeg_executable() != str(bad)
    finally:
        monkeypatch.undo()
        ffmpeg_executable.cache_clear()
