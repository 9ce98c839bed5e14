"""What a video file is, before anything is decoded."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from pathlib import Path

from data_tools.errors import InputError
from data_tools.video.ffmpeg import ffmpeg_executable, input_arguments, require_plain_file


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Facts of a file's first video stream.

    Attributes:
      width, height: pixels as shown (after rotation, pixels made square).
      fps: average frames per second.
      seconds: length of the container.
      audio: codec, rate and channels of the first audio stream as ffmpeg words it; None without one.
      alpha: whether the picture has an alpha channel.
    """

    width: int
    height: int
    fps: float
    seconds: float
    audio: str | None
    alpha: bool = False


def probe(path: str | os.PathLike) -> VideoInfo:
    """Reads a file's headers; a file without a length in them (as browsers record) is read through once.

    Raises:
      InputError: the file is absent, not a plain file, not a video by its content, or holds no picture stream.
    """
    path = require_plain_file(path)
    text = _messages(path)
    if "Format not on whitelist" in text:
        raise InputError(f"{path} is not a video by its content, but a playlist, a list of files or a picture: give the video file itself.")
    stream = next((line for line in text.splitlines() if "Video:" in line and "attached pic" not in line), None)
    if stream is None and "Audio:" in text:
        raise InputError(f"{path} holds sound but no picture: give the video with both.")
    if "moov atom not found" in text and b"ftyp" in _first_bytes(path):
        raise InputError(f"{path} is cut off, the index at its end is missing: copy it again, or record it again in a format such as mkv.")
    if stream is None:
        raise InputError(f"{path} is not a video that ffmpeg can read: give an mp4, mov, mkv or webm with a picture.")
    size = re.search(r", (\d{1,5})x(\d{1,5})", stream)
    fps = re.search(r"([\d.]+)(k?) fps", stream) or re.search(r"([\d.]+)(k?) tbr", stream)
    seconds = _seconds(text)
    rate = float(fps.group(1)) * (1000.0 if fps.group(2) else 1.0) if fps else 0.0
    if size and not seconds:
        seconds, rate = _counted(path)
    if not (size and rate and seconds):
        raise InputError(f"{path} is damaged: ffmpeg finds no size, frame rate or length in it; export the video again.")
    width, height = int(size.group(1)), int(size.group(2))
    if shape := re.search(r"\[SAR (\d+):(\d+)", stream):
        width = square_width(width, int(shape.group(1)), int(shape.group(2)))
    turned = re.search(r"rotation of (-?[\d.]+) degrees", text)
    if turned and round(abs(float(turned.group(1)))) % 180 == 90:
        width, height = height, width
    audio = re.search(r"Audio: (.+)", text)
    alpha = "yuva" in stream or "rgba" in stream or re.search(r"alpha_mode\s*: 1", text) is not None
    return VideoInfo(width, height, rate, seconds, audio.group(1).strip() if audio else None, alpha)


def square_width(width: int, across: int, down: int) -> int:
    """Width of a picture once its pixels, `across` : `down` in shape, are made square; even, as `read.frames` makes it."""
    return width if across == down or not across * down else int(width * across / down / 2.0) * 2


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(32)


def _messages(path: Path, *output: str) -> str:
    """What ffmpeg says about a file while it does `output` with it; without an output it reads the headers alone."""
    command = [ffmpeg_executable(), "-hide_banner", "-nostdin", *input_arguments(path), *output]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).stderr.decode("utf-8", "replace")


def _seconds(text: str) -> float:
    """The last h:mm:ss.ss behind "Duration: " or "time="; 0.0 where there is none."""
    found = re.findall(r"(?:Duration: |time=)(\d+):(\d+):([\d.]+)", text)
    return float(found[-1][0]) * 3600 + float(found[-1][1]) * 60 + float(found[-1][2]) if found else 0.0


def _counted(path: Path) -> tuple[float, float]:
    """(seconds, frames per second) by reading the whole file without decoding it: browsers record files without a length."""
    text = _messages(path, "-map", "0:V:0", "-c", "copy", "-f", "null", "-stats", "-")
    seconds, frames = _seconds(text), re.findall(r"frame=\s*(\d+)", text)
    return (seconds, round(int(frames[-1]) / seconds, 3)) if frames and seconds else (0.0, 0.0)
