"""First look at a clip: is it usable, who is in it, where to crop."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.face.crop import choose_crop
from data_tools.face.track import FaceTrack, check_rivals, detect
from data_tools.video.cuts import check_cuts, watched
from data_tools.video.probe import VideoInfo, probe
from data_tools.video.read import FPS, Box, frames

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
