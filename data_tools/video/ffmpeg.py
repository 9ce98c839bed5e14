"""Where ffmpeg is, and how a user's file is handed to it: as one local file, whatever its name and content say.

imageio-ffmpeg brings a static binary, so a machine without a system ffmpeg works too. ffmpeg is always run as a subprocess with a list of
arguments, never through a shell.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path
from typing import IO

from data_tools.errors import InputError

PROTOCOLS = ("-protocol_whitelist", "file,pipe")
"""Input option: nothing in a user's file must make ffmpeg open network addresses."""

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,mxf,nut,yuv4mpegpipe,"  # with a picture
    "wav,w64,rf64,aiff,au,caf,mp3,aac,ac3,eac3,flac,ogg,amr,amrnb,amrwb,wv,ape,tta,dts"  # sound alone
)
"""Demuxers that may read a user's file. ffmpeg chooses by content, so a playlist, a list of files or a picture pattern under the name of a
video is refused before any file that it names is opened."""


@functools.cache
def ffmpeg_executable() -> str:
    """Path of ffmpeg: `$IMAGEIO_FFMPEG_EXE`, else the one on PATH, else imageio-ffmpeg's.

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
            "or point IMAGEIO_FFMPEG_EXE at an ffmpeg binary."
        ) from error


def file_argument(path: str | os.PathLike) -> str:
    """The path as ffmpeg must get it: absolute, behind `file:`, so neither `-x.wav` nor `a:b.wav` is taken for an option or a protocol."""
    return f"file:{Path(path).absolute()}"


def input_arguments(path: str | os.PathLike) -> list[str]:
    """`-i` for a user's file, with what keeps ffmpeg to that one file: no network, no playlist, no pattern, no option in its name."""
    return [*PROTOCOLS, "-format_whitelist", CONTAINERS, "-i", file_argument(path)]


def require_plain_file(path: str | os.PathLike, what: str = "video") -> Path:
    """The path, when it leads to a plain file that holds something.

    Raises:
      InputError: nothing is there, or a folder, a pipe, a device, or a file of 0 bytes.
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


def first_complaint(log: IO[bytes], otherwise: str = "it stopped without a word") -> str:
    """The first line of what ffmpeg wrote to a file (what follows is its consequence), without the component's name in front."""
    log.seek(0)
    messages = log.read().decode("utf-8", "replace")
    lines = [re.sub(r"^(\[[^\]]*\] *)+", "", line).strip() for line in messages.splitlines()]
    return next((line.rstrip(".") for line in lines if line), otherwise)
