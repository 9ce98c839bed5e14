"""Decoded frames as a stream, one in memory at a time: resampled, trimmed, cropped and scaled by ffmpeg, or as they are."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, first_complaint, input_arguments, require_plain_file

FPS = 25
"""Every dataset's frame rate."""

SQUARE_PIXELS = "scale=w='if(gt(sar,0)*not(eq(sar,1)),trunc(iw*sar/2)*2,iw)':h=ih"
"""Filter that makes oblong pixels (anamorphic video) square, in which faces are measured; square ones pass through untouched."""


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
) -> Generator[np.ndarray, None, None]:
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
    steps.append(SQUARE_PIXELS)
    if crop is not None:
        steps.append(f"crop={crop.size}:{crop.size}:{crop.x}:{crop.y}:exact=1")
    growing = crop is not None and crop.size < width
    steps.append(f"scale={width}:{height}:flags={'bicubic' if growing else 'area'}+accurate_rnd+full_chroma_int")
    seek = ["-ss", f"{trim[0]:.3f}", "-t", f"{trim[1] - trim[0]:.3f}"] if trim else []
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *seek, *input_arguments(path), "-map", "0:V:0"]
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
            reason = first_complaint(messages, "no frame came out")
            raise InputError(f"{Path(path)} can't be decoded after frame {count} ({reason}): export the video again.")


def read_video(path: str | os.PathLike[str], fps: float | None = None) -> Generator[np.ndarray, None, None]:
    """Yields a video's frames as uint8 [H, W, 3] RGB; rotation is applied.

    Args:
      path: a video file on this machine.
      fps: resample to this frame rate; None keeps the file's own frames.

    Raises:
      InputError: the file is missing or ffmpeg can't read it to its end.
    """
    path = require_plain_file(path)
    filters = [] if fps is None else ["-vf", f"fps={fps}"]
    # PPM frames carry their own size, so the file need not be probed first.
    command = [ffmpeg_executable(), "-nostdin", "-v", "error", *input_arguments(path), "-map", "0:V:0", *filters]
    command += ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        count = 0
        try:
            while (frame := _read_ppm(process.stdout)) is not None:
                count += 1
                yield frame
            if process.wait() != 0 or count == 0:
                raise InputError(f"ffmpeg could not read {path} as a video: {first_complaint(log)}; give another file")
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _read_ppm(stream) -> np.ndarray | None:
    """Reads one binary PPM picture as ffmpeg writes it (three header lines), or None at the end of the stream."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # 255
    data = stream.read(3 * width * height)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == 3 * width * height else None
