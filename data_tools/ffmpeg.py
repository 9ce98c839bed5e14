"""ffmpeg: finding the program, passing a user's file to it safely, and probing video files.

ffmpeg is always run as a subprocess with a list of arguments, never through a shell.
"""

import dataclasses
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import IO

from data_tools.errors import InputError

PROTOCOLS = ("-protocol_whitelist", "file,pipe")
"""Input option that keeps the content of a user's file from making ffmpeg open network addresses."""

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,mxf,nut,yuv4mpegpipe,"  # with a picture
    "wav,w64,rf64,aiff,au,caf,mp3,aac,ac3,eac3,flac,ogg,amr,amrnb,amrwb,wv,ape,tta,dts"  # sound alone
)
"""Demuxers allowed for a user's file. ffmpeg chooses the demuxer by content, so a playlist, a list of files or a picture pattern that is
named like a video is refused before any file it refers to is opened."""


@functools.cache
def ffmpeg_executable() -> str:
    """Path of ffmpeg: `$IMAGEIO_FFMPEG_EXE`, else the one on PATH, else the static binary of imageio-ffmpeg.

    Raises:
      InputError: none of the three exists.
    """
    found = os.environ.get("IMAGEIO_FFMPEG_EXE") or shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise InputError(
            "ffmpeg was found neither on PATH nor in the package imageio-ffmpeg: run `pip install imageio-ffmpeg`, "
            "or set IMAGEIO_FFMPEG_EXE to the path of an ffmpeg binary."
        ) from error


def file_argument(path: str | os.PathLike) -> str:
    """The path as an ffmpeg argument: absolute and prefixed with `file:`, so `-x.wav` is no option and `a:b.wav` no protocol."""
    return f"file:{Path(path).absolute()}"


def input_arguments(path: str | os.PathLike) -> list[str]:
    """`-i` for a user's file with the options that restrict ffmpeg to that one file (`PROTOCOLS`, `CONTAINERS`)."""
    return [*PROTOCOLS, "-format_whitelist", CONTAINERS, "-i", file_argument(path)]


def require_plain_file(path: str | os.PathLike, what: str = "video") -> Path:
    """The path, if it is a regular file that is not empty.

    Raises:
      InputError: the path does not exist, or is a folder, a pipe, a device or a file of 0 bytes.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a {what}: give the {what} file inside it.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe or a device, not a {what} file: save the {what} to a file first.")
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path of the {what}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or export the {what} again.")
    return path


def first_error_line(log: IO[bytes], otherwise: str = "it stopped without a message") -> str:
    """First line of ffmpeg's messages, without the component's name: later lines are consequences of it. `otherwise` if there is none."""
    log.seek(0)
    messages = log.read().decode("utf-8", "replace")
    lines = [re.sub(r"^(\[[^\]]*\] *)+", "", line).strip() for line in messages.splitlines()]
    return next((line.rstrip(".") for line in lines if line), otherwise)


# -------- Probing: facts from a video's headers, before anything is decoded


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Facts of a file's first video stream.

    Attributes:
      width, height: pixels as displayed (after rotation, with square pixels).
      fps: average frames per second.
      seconds: duration of the container.
      audio: codec, rate and channels of the first audio stream in ffmpeg's words; None without one.
      alpha: whether the picture has an alpha channel.
    """

    width: int
    height: int
    fps: float
    seconds: float
    audio: str | None
    alpha: bool = False


def probe(path: str | os.PathLike) -> VideoInfo:
    """Reads a file's headers; a file without a duration in them (as browsers record) is read through once.

    Raises:
      InputError: the file is missing, not a regular file, not a video by its content, or has no video stream.
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
        seconds, rate = _measure_duration(path)
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
    """Even width of a picture after resampling from a pixel aspect ratio of `across` : `down` to square pixels (as `read.frames` does)."""
    return width if across == down or not across * down else int(width * across / down / 2.0) * 2


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(32)


def _messages(path: Path, *output: str) -> str:
    """ffmpeg's messages about a file while writing `output`; without an output it reads only the headers."""
    command = [ffmpeg_executable(), "-hide_banner", "-nostdin", *input_arguments(path), *output]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).stderr.decode("utf-8", "replace")


def _seconds(text: str) -> float:
    """The last h:mm:ss.ss after "Duration: " or "time=", in seconds; 0.0 if there is none."""
    found = re.findall(r"(?:Duration: |time=)(\d+):(\d+):([\d.]+)", text)
    return float(found[-1][0]) * 3600 + float(found[-1][1]) * 60 + float(found[-1][2]) if found else 0.0


def _measure_duration(path: Path) -> tuple[float, float]:
    """(seconds, frames per second) found by reading the whole file without decoding it."""
    text = _messages(path, "-map", "0:V:0", "-c", "copy", "-f", "null", "-stats", "-")
    seconds, frames = _seconds(text), re.findall(r"frame=\s*(\d+)", text)
    return (seconds, round(int(frames[-1]) / seconds, 3)) if frames and seconds else (0.0, 0.0)
