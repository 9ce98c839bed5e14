"""First pass over a video: is it usable, who is in it, where to crop, and how it is divided into chunks of frames."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.face.crop import choose_crop
from data_tools.face.track import FaceTrack, check_rivals, detect
from data_tools.ffmpeg import VideoInfo, probe
from data_tools.video.read import FPS, Box, check_cuts, frames, watched

# ----------------------------------------------------------------------------------------------------
# First look at a clip: is it usable, who is in it, where to crop.

MIN_SECONDS = 3.0
LOOKS_PER_SECOND = 5.0
"""Pictures looked at for the crop and for other people."""
LOOK_SIDE = 640
"""Longer side of those pictures, pixels."""


@dataclasses.dataclass(frozen=True)
class Scan:
    """`box` the crop; `head_fraction` head height over its side; `rival_fraction` share of looks with another face; `changes` sentences."""

    box: Box
    head_fraction: float
    rival_fraction: float
    changes: list[str]


def parse_trim(trim: str | tuple[float, float] | None) -> tuple[float, float] | None:
    """`"2.5-14"` or (2.5, 14.0) -> seconds; None stays.

    Raises:
      InputError: not two increasing seconds.
    """
    if trim is None:
        return None
    try:
        start, end = (float(part) for part in (trim.split("-") if isinstance(trim, str) else trim))
    except (ValueError, TypeError) as error:
        raise InputError(f"--trim {trim} is not of the form A-B in seconds: write for example --trim 2.5-14.") from error
    if not (0.0 <= start < end < math.inf):
        raise InputError(f"--trim {trim} has no length: write the start before the end, for example --trim 2.5-14.")
    return start, end


def check_video(path: Path, trim: tuple[float, float] | None) -> tuple[VideoInfo, tuple[float, float] | None]:
    """What can be said without decoding; returns the file's facts and the trim cut to its length.

    Raises:
      InputError: not a video, no sound, or too short.
    """
    info = probe(path)
    if info.audio is None:
        raise InputError(
            f"{path} has no sound: use the video with its audio track, since the model learns from speech and picture together."
        )
    if trim is not None:
        trim = (trim[0], min(trim[1], info.seconds))
    length = info.seconds if trim is None else trim[1] - trim[0]
    if length < MIN_SECONDS:
        part = "after --trim " if trim else ""
        raise InputError(f"{path} lasts {part}{max(length, 0.0):.1f} s, at least {MIN_SECONDS:g} s are needed: use a longer stretch.")
    return info, trim


def look_at_faces(path: Path, info: VideoInfo, trim: tuple[float, float] | None, rate: float, progress=iter) -> FaceTrack:
    """The faces in `rate` small pictures of the whole frame a second; the other arguments are `scan`'s.

    Raises:
      InputError: a cut to another scene, or no face.
    """
    scale = min(LOOK_SIDE / max(info.width, info.height), 1.0)
    size = (max(round(info.width * scale / 2) * 2, 2), max(round(info.height * scale / 2) * 2, 2))
    thumbnails: list[np.ndarray] = []
    track = detect(progress(watched(frames(path, size, trim=trim, fps=rate), thumbnails)), rate)
    check_cuts(path, thumbnails, rate, trim[0] if trim else 0.0)
    return track


def scan(path: Path, info: VideoInfo, trim: tuple[float, float] | None, progress=iter) -> Scan:
    """Looks at a few pictures a second of the whole frame.

    Args:
      path: the video.
      info: its facts.
      trim: seconds to look at.
      progress: wraps the iterator of frames.

    Raises:
      InputError: a cut to another scene, no face, or two people of similar size.
    """
    track = look_at_faces(path, info, trim, LOOKS_PER_SECOND, progress)
    changes = check_rivals(track)
    faces = track.landmarks[track.found] * [info.width, info.height, info.width]
    box, fraction = choose_crop(faces, info.width, info.height)
    return Scan(box, fraction, float((track.rival > 0)[track.found].mean()), changes)


def format_changes(info: VideoInfo, trim: tuple[float, float] | None, box: Box, size: int) -> list[str]:
    """One sentence per thing that the dataset has otherwise than the file."""
    changes = []
    if trim is not None:
        changes.append(f"only the seconds {trim[0]:g} to {trim[1]:g} are used")
    if abs(info.fps - FPS) > 0.01:
        changes.append(f"the picture was resampled from {info.fps:g} to {FPS} fps")
    if (box.x, box.y, box.size) != (0, 0, info.width) or info.width != info.height:
        changes.append(f"cropped from {info.width}x{info.height} to the square of {box.size} at ({box.x}, {box.y})")
    if box.size != size:
        changes.append(f"scaled from {box.size}x{box.size} to {size}x{size}")
    sound = info.audio or ""
    if not ("16000 Hz" in sound and "mono" in sound):
        changes.append(f"the sound was converted to 16 kHz mono (from {', '.join(part.strip() for part in sound.split(',')[:3])})")
    return changes


# ----------------------------------------------------------------------------------------------------
# A clip cut into fixed chunks of frames: the unit of work, of resuming and of memory.
#
# Every chunk is decoded by itself, from a second before its start, whether or not the chunk before it was just worked on. So an interrupted
# run, a run with several workers and an undisturbed one see the same frames and give the same bytes.

CHUNK_FRAMES = 250
"""Ten seconds: the most work a killed run loses. A whole number of seconds, so that a seek falls on a frame of the 25 fps grid."""

PREROLL_FRAMES = 25
"""Frames decoded before a chunk: the frame rate converter has settled then, and a tracker gets the last of them to find its face."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Frames [first, end) of the clip."""

    index: int
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclasses.dataclass(frozen=True)
class FrameSource:
    """What is decoded: a file, its crop, the seconds used, and the side of the square pictures that come out."""

    video: Path
    box: Box
    trim: tuple[float, float] | None
    size: int


def plan(n_frames: int) -> list[Chunk]:
    """The chunks of a clip of n_frames; the last one may be short."""
    return [Chunk(i, first, min(first + CHUNK_FRAMES, n_frames)) for i, first in enumerate(range(0, n_frames, CHUNK_FRAMES))]


def chunk_frames(source: FrameSource, chunk: Chunk, preroll: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes one chunk.

    Args:
      source: the clip.
      chunk: the frames wanted.
      preroll: how many of the frames before the chunk come out first, at most `PREROLL_FRAMES`.

    Yields:
      (number of the frame in the clip, uint8 [size, size, 3]). A file that ends early yields fewer frames, perhaps none.

    Raises:
      InputError: the first chunk holds no frame, or ffmpeg gave up in the middle of one.
    """
    start, stop = source.trim or (0.0, float("inf"))
    decoded_from = max(chunk.first - PREROLL_FRAMES, 0)
    # Half a second more is read than used: what the frame rate converter does at the end of its input must not show inside a clip.
    span = (start + decoded_from / FPS, min(start + chunk.end / FPS + 0.5, stop))
    number = decoded_from
    stream = frames(source.video, (source.size, source.size), crop=source.box, trim=span)
    try:
        for frame in stream:
            if number >= chunk.end:
                return
            if number >= chunk.first - preroll:
                yield number, frame
            number += 1
    except InputError:
        if chunk.first == 0 or number > decoded_from:
            raise
    finally:
        stream.close()
