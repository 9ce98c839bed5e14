"""Decoded frames as a stream: resampled to 25 fps, trimmed, cropped and scaled by ffmpeg, one frame in memory at a time."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.video.ffmpeg import PROTOCOLS, ffmpeg_executable, file_argument

FPS = 25
"""Every dataset's frame rate."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A square in source pixels: left and top (even numbers, since video colour comes in blocks of two by two), and side."""

    x: int
    y: int
    size: int


def frames(
    path: str | os.PathLike,
    size: tuple[int, int],
    *,
    crop: Box | None = None,
    trim: tuple[float, float] | None = None,
    fps: float = FPS,
) -> Iterator[np.ndarray]:
    """Yields the video's frames.

    Args:
      path: the video.
      size: (width, height) of what is yielded; scaled by area averaging, or bicubically where a crop has to grow.
      crop: cut out before scaling.
      trim: seconds (start, end) of the source.
      fps: frames are repeated or left out to reach it.

    Yields:
      uint8 [height, width, 3] RGB, rotation applied.

    Raises:
      InputError: not one frame could be decoded, or ffmpeg gave up in the middle.
    """
    width, height = size
    # start_time=0 repeats the first frame where the picture starts later than the sound: frame i is always second i / fps of the file.
    steps = [f"fps={fps}:start_time=0"]
    if crop is not None:
        steps.append(f"crop={crop.size}:{crop.size}:{crop.x}:{crop.y}:exact=1")
    growing = crop is not None and crop.size < width
    steps.append(f"scale={width}:{height}:flags={'bicubic' if growing else 'area'}+accurate_rnd+full_chroma_int")
    seek = ["-ss", f"{trim[0]:.3f}", "-t", f"{trim[1] - trim[0]:.3f}"] if trim else []
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *seek, *PROTOCOLS, "-i", file_argument(path), "-map", "0:v:0"]
    command += ["-vf", ",".join(steps), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    length = width * height * 3
    count = 0
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, bufsize=length)
        assert process.stdout is not None
        try:
            while len(data := process.stdout.read(length)) == length:
                count += 1
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            failed = process.wait() != 0
        finally:
            process.stdout.close()
            process.kill()
            process.wait()
        if failed or not count:
            messages.seek(0)
            reason = messages.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["no frame came out"]
            raise InputError(f"{Path(path)} can't be decoded after frame {count} ({reason[0]}): export the video again.")
