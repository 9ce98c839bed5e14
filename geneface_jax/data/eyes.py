"""Where the eyes are and which frames show them shut.

A blink is a few dozen pixels in one frame of fifteen: of rays drawn evenly over faces and frames, one in a thousand sees a closed lid, and
a field trained on them keeps its eyes open whatever the condition says.
"""

from __future__ import annotations

import numpy as np

EYES = (slice(36, 42), slice(42, 48))
"""Of the 68 points, the outline of the right and of the left eye."""

MARGIN = 0.35
"""Added on every side of an eye's outline, in widths of the eye: lids and lashes lie outside of it."""

SHUT = 0.5
"""Eyes count as shut below this share of the way from shut to open."""

BLINKS = 0.6
"""A video shows blinks when its least openness is below this share of the usual one."""


MOST_OFTEN = 3.0
"""Shut frames come up at most so many times more often than in the video: a clip with two blinks would otherwise be learnt by heart."""


def eye_boxes(landmarks_2d: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes about either eye.

    Args:
      landmarks_2d: [T, 68, 2] pixels (x, y).
      size: pixels of the square picture's side.

    Returns:
      (right, left), each [T, 4] int32 x0, y0, x1, y1, x1 and y1 exclusive, clipped to the picture and never empty.
    """
    boxes = []
    for points in EYES:
        low, high = landmarks_2d[:, points].min(axis=1), landmarks_2d[:, points].max(axis=1)
        margin = MARGIN * (high[:, :1] - low[:, :1])
        first = np.clip(np.floor(low - margin), 0, size - 1)
        last = np.clip(np.ceil(high + margin), first + 1, size)
        boxes.append(np.concatenate([first, last], axis=1).astype(np.int32))
    return boxes[0], boxes[1]


def shut_frames(eye_openness: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Those of `candidates` [n] (frame numbers) whose eyes are shut or nearly so; none where the person is never seen to blink.

    Args:
      eye_openness: [T], of any unit that grows with the gap between the lids.
    """
    return candidates[_shut(eye_openness[candidates])]


def shut_share(wanted: float, shut: np.ndarray, candidates: np.ndarray) -> float:
    """The share of frames to be drawn from `shut` [m] among `candidates` [n]: `wanted`, or less where there are few of them."""
    return min(wanted, MOST_OFTEN * len(shut) / max(len(candidates), 1))


def count_blinks(eye_openness: np.ndarray) -> int:
    """How often the eyes shut in a clip: openness [T] -> number of separate runs of shut frames."""
    return int(np.sum(np.diff(_shut(eye_openness).astype(int), prepend=0) == 1))


def _shut(openness: np.ndarray) -> np.ndarray:
    """[T] -> [T] bool."""
    if not len(openness):
        return np.zeros(0, bool)
    usual, least = np.median(openness), np.quantile(openness, 0.005)
    if least > BLINKS * usual:
        return np.zeros(len(openness), bool)
    return openness < least + SHUT * (usual - least)
