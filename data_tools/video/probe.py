"""What a video file is, before anything is decoded."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from pathlib import Path

from data_tools.errors import InputError
from data_tools.video.ffmpeg import PROTOCOLS, ffmpeg_executable, file_argument

PLAYLISTS = ("hls", "concat", "concatf", "dash", "image2", "image2pipe", "ffmetadata", "tty", "sdp", "rtsp", "lavfi")
"""Demuxers that read other files or make pictures out of text; a video must be a video by content, whatever its name."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Facts of a file's first video stream.

    Attributes:
      width, height: pixels as shown (after rotation).
      fps: average frames per second.
      seconds: length of the container.
      audio: codec, rate and channels of the first audio stream as ffmpeg words it; None without one.
    """

    width: int
    height: int
    fps: float
    seconds: float
    audio: str | None


def probe(path: str | os.PathLike) -> VideoInfo:
    """Reads a file's headers.

    Raises:
      InputError: the file is absent, not a video, or holds no picture stream.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path of the video.")
    command = [ffmpeg_executable(), "-hide_banner", "-nostdin", *PROTOCOLS, "-i", file_argument(path)]
    text = subprocess.run(command, capture_output=True, check=False).stderr.decode("utf-8", "replace")
    container = re.search(r"Input #0, ([\w,]+)", text)
    if container and set(container.group(1).split(",")) & set(PLAYLISTS):
        raise InputError(f"{path} is a playlist or picture list, not a video: give the video file itself.")
    stream = next((line for line in text.splitlines() if "Video:" in line and "attached pic" not in line), None)
    if stream is None:
        raise InputError(f"{path} is not a video that ffmpeg can read: give an mp4, mov, mkv or webm with a picture.")
    size = re.search(r", (\d{2,5})x(\d{2,5})", stream)
    fps = re.search(r"([\d.]+) fps", stream) or re.search(r"([\d.]+) tbr", stream)
    duration = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    if not (size and fps and duration):
        raise InputError(f"{path} is damaged: ffmpeg finds no size, frame rate or length in it; export the video again.")
    width, height = int(size.group(1)), int(size.group(2))
    turned = re.search(r"rotation of (-?[\d.]+) degrees", text)
    if turned and round(abs(float(turned.group(1)))) % 180 == 90:
        width, height = height, width
    hours, minutes, seconds = (float(part) for part in duration.groups())
    audio = re.search(r"Audio: (.+)", text)
    return VideoInfo(width, height, float(fps.group(1)), hours * 3600 + minutes * 60 + seconds, audio.group(1).strip() if audio else None)
