"""Streaming video decoder on ffmpeg (resampled, trimmed, cropped and scaled, or unchanged), and scene cut detection."""

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
from data_tools.ffmpeg import ffmpeg_executable, first_error_line, input_arguments, require_plain_file

FPS = 25
"""Frame rate of every dataset."""

SQUARE_PIXELS = "scale=w='if(gt(sar,0)*not(eq(sar,1)),trunc(iw*sar/2)*2,iw)':h=ih"
"""Filter that scales anamorphic video to square pixels, which face measurements assume; other video passes through unchanged."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A square in source pixels: left and top (even, because of chroma subsampling), and side."""

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
    """Yields the video's frames as uint8 [height, width, 3] RGB, rotation applied.

    Args:
      path: the video.
      size: (width, height) of the result; scaled by area averaging, or bicubically if a crop is enlarged.
      crop: applied before scaling.
      trim: seconds (start, end) of the source.
      fps: frame rate of the result; frames are duplicated or dropped.

    Raises:
      InputError: no frame could be decoded, or ffmpeg stopped with an error.
    """
    width, height = size
    # start_time=0 duplicates the first frame if the video starts later than the audio: frame i is always at i / fps seconds of the file.
    filters = [f"fps={fps}:start_time=0", SQUARE_PIXELS]
    if crop is not None:
        filters.append(f"crop={crop.size}:{crop.size}:{crop.x}:{crop.y}:exact=1")
    enlarged = crop is not None and crop.size < width
    filters.append(f"scale={width}:{height}:flags={'bicubic' if enlarged else 'area'}+accurate_rnd+full_chroma_int")
    seek = ["-ss", f"{trim[0]:.3f}", "-t", f"{trim[1] - trim[0]:.3f}"] if trim else []
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *seek, *input_arguments(path), "-map", "0:V:0"]
    command += ["-vf", ",".join(filters), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
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
            reason = first_error_line(messages, "no frame was decoded")
            raise InputError(f"{Path(path)} can't be decoded after frame {count} ({reason}): export the video again.")


def read_video(path: str | os.PathLike[str], fps: float | None = None) -> Generator[np.ndarray, None, None]:
    """Yields a video's frames as uint8 [H, W, 3] RGB, rotation applied.

    Args:
      path: a local video file.
      fps: resample to this frame rate; None keeps the file's frames.

    Raises:
      InputError: the file is missing or ffmpeg can't read it to its end.
    """
    path = require_plain_file(path)
    filters = [] if fps is None else ["-vf", f"fps={fps}"]
    # PPM frames include their size, so the file need not be probed first.
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
                raise InputError(f"ffmpeg could not read {path} as a video ({first_error_line(log)}): give another file.")
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _read_ppm(stream) -> np.ndarray | None:
    """Reads one binary PPM image as written by ffmpeg (three header lines); None at the end of the stream."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # 255
    data = stream.read(3 * width * height)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == 3 * width * height else None


# -------- Scene cut detection: in thumbnails taken a few times a second, then refined to the frame

THUMBNAIL = 32
"""Pixels per side of the compared thumbnails."""

SAME_SCENE = 0.6
"""Correlation from which on two thumbnails show the same scene. A talking head with a fixed camera stays above 0.9 over a fifth of a
second, two scenes are mostly below 0.4."""

CHANGE = 10.0
"""Mean difference in levels (of 255) below which there is no cut at any correlation."""

FLAT = 3.0
"""Standard deviation in levels below which a thumbnail shows no scene (black before a fade-in)."""


def with_thumbnails(images: Iterable[np.ndarray], thumbnails: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Passes images through and appends a uint8 [32, 32, 3] thumbnail of each to `thumbnails`."""
    for image in images:
        thumbnails.append(cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
        yield image


def cuts_between(thumbnails: list[np.ndarray]) -> list[int]:
    """Indices i of thumbnails that show another scene than i - 1; a change of brightness alone is not a cut."""
    if len(thumbnails) < 2:
        return []
    flat = np.stack(thumbnails).reshape(len(thumbnails), -1).astype(np.float64)
    spread, centered = flat.std(1), flat - flat.mean(1, keepdims=True)
    correlation = (centered[1:] * centered[:-1]).mean(1) / np.maximum(spread[1:] * spread[:-1], 1e-9)
    change = np.abs(np.diff(flat, axis=0)).mean(1)
    has_content = np.minimum(spread[1:], spread[:-1]) > FLAT
    return [int(i) + 1 for i in np.flatnonzero((correlation < SAME_SCENE) & (change > CHANGE) & has_content)]


def find_cuts(path: str | os.PathLike, thumbnails: list[np.ndarray], rate: float, start: float = 0.0) -> list[float]:
    """Seconds at which a new scene begins.

    A change between two thumbnails counts only if it occurs between two consecutive frames: a quick camera pan is not a cut.

    Args:
      path: the video.
      thumbnails: taken `rate` times per second.
      rate: per second.
      start: time of the first thumbnail in the video, in seconds.
    """
    times: list[float] = []
    for number in cuts_between(thumbnails):
        # Rounded to a frame, so that cut times are frame times.
        first = math.floor(max(start + (number - 1.5) / rate, 0.0) * FPS) / FPS
        nearby: list[np.ndarray] = []
        for _ in with_thumbnails(frames(path, (2 * THUMBNAIL, 2 * THUMBNAIL), trim=(first, first + 2.0 / rate)), nearby):
            pass
        times += [first + frame / FPS for frame in cuts_between(nearby)]
    # The intervals around neighboring thumbnails overlap.
    return sorted({round(time, 3) for time in times})


def check_cuts(path: str | os.PathLike, thumbnails: list[np.ndarray], rate: float, start: float = 0.0) -> None:
    """Rejects a clip with several scenes; arguments as for `find_cuts`.

    Raises:
      InputError: there is a cut; the sentence names its time and the `--trim` of the longest scene.
    """
    cuts = find_cuts(path, thumbnails, rate, start)
    if not cuts:
        return
    borders = [start, *cuts, start + len(thumbnails) / rate]
    first, end = max(zip(borders[:-1], borders[1:], strict=True), key=lambda scene: scene[1] - scene[0])
    named = ", ".join(f"{time:.2f}" for time in cuts[:5]) + (f" and {len(cuts) - 5} more" if len(cuts) > 5 else "")
    raise InputError(
        f"The video cuts to another scene at {named} s: keep one scene (the longest is `--trim {first:.2f}-{end:.2f}`), or use a video "
        "without cuts."
    )
