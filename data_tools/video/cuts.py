"""Cuts to another scene, found in small pictures taken a few times a second and then to the frame."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from data_tools.errors import InputError
from data_tools.video.read import FPS, frames

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
    spread, centred = flat.std(1), flat - flat.mean(1, keepdims=True)
    correlation = (centred[1:] * centred[:-1]).mean(1) / np.maximum(spread[1:] * spread[:-1], 1e-9)
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
