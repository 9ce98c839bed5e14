"""Where ffmpeg is, and how a user's path is handed to it.

imageio-ffmpeg brings a static binary, so a machine without a system ffmpeg works too. ffmpeg is always run as a subprocess with a list of
arguments, never through a shell.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from data_tools.errors import InputError

PROTOCOLS = ("-protocol_whitelist", "file,pipe")
"""Input option: a playlist in a user's file must not make ffmpeg open network addresses."""


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
