"""Decoded frames as a stream, one in memory at a time: resampled, trimmed, cropped and scaled by ffmpeg, or as they are."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import cv2
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


# ----------------------------------------------------------------------------------------------------
# Cuts to another scene, found in small pictures taken a few times a second and then to the frame.

THUMBNAIL = 32
"""Pixels per side of the pictures that are compared: a scene, not its details."""

SAME_SCENE = 0.6
"""Correlation of two pictures from which on they show the same scene. A talking head with a still camera stays above 0.9 over a fifth of a
second, two scenes are mostly below 0.4."""

CHANGE = 10.0
"""Mean difference in levels (of 255) below which nothing has happened, whatever the correlation."""

FLAT = 3.0
"""Standard deviation in levels below which a picture shows nothing (black before a fade-in): no scene to cut from or to."""


def watched(pictures: Iterable[np.ndarray], thumbnails: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Passes pictures on and appends a uint8 [32, 32, 3] thumbnail of each."""
    for picture in pictures:
        thumbnails.append(cv2.resize(picture, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
        yield picture


def cuts_between(thumbnails: list[np.ndarray]) -> list[int]:
    """Numbers i of thumbnails that show another scene than i - 1. A change of light alone is no cut."""
    if len(thumbnails) < 2:
        return []
    flat = np.stack(thumbnails).reshape(len(thumbnails), -1).astype(np.float64)
    spread, centerd = flat.std(1), flat - flat.mean(1, keepdims=True)
    correlation = (centerd[1:] * centerd[:-1]).mean(1) / np.maximum(spread[1:] * spread[:-1], 1e-9)
    change = np.abs(np.diff(flat, axis=0)).mean(1)
    seen = np.minimum(spread[1:], spread[:-1]) > FLAT
    return [int(i) + 1 for i in np.flatnonzero((correlation < SAME_SCENE) & (change > CHANGE) & seen)]


def find_cuts(path: str | os.PathLike, thumbnails: list[np.ndarray], rate: float, start: float = 0.0) -> list[float]:
    """Seconds at which a new scene begins.

    A change between two thumbnails counts only when two consecutive frames show it: a quick pan of the camera is no cut.

    Args:
      path: the video.
      thumbnails: taken `rate` times a second.
      rate: per second.
      start: seconds of the video at which they begin.
    """
    times: list[float] = []
    for number in cuts_between(thumbnails):
        # On a whole frame, so that the time found is that of a frame.
        first = math.floor(max(start + (number - 1.5) / rate, 0.0) * FPS) / FPS
        near: list[np.ndarray] = []
        for _ in watched(frames(path, (2 * THUMBNAIL, 2 * THUMBNAIL), trim=(first, first + 2.0 / rate)), near):
            pass
        times += [first + frame / FPS for frame in cuts_between(near)]
    # Neighbouring thumbnails look at the same frames.
    return sorted({round(time, 3) for time in times})


def check_cuts(path: str | os.PathLike, thumbnails: list[np.ndarray], rate: float, start: float = 0.0) -> None:
    """Refuses a clip of several scenes; arguments as `find_cuts`.

    Raises:
      InputError: there is a cut; names the seconds and the `--trim` that keeps the longest scene.
    """
    cuts = find_cuts(path, thumbnails, rate, start)
    if not cuts:
        return
    borders = [start, *cuts, start + len(thumbnails) / rate]
    first, end = max(zip(borders[:-1], borders[1:], strict=True), key=lambda scene: scene[1] - scene[0])
    named = ", ".join(f"{time:.2f}" for time in cuts[:5]) + (f" and {len(cuts) - 5} more" if len(cuts) > 5 else "")
    raise InputError(
        f"the picture cuts to another scene at {named} s: keep one scene, the longest is `--trim {first:.2f}-{end:.2f}`, or use a video "
        "without cuts."
    )
