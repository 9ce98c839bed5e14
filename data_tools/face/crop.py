"""Where to cut the square out of the source picture: fixed over the clip, head and shoulders in it."""

from __future__ import annotations

import numpy as np

from data_tools.face.geometry import CHIN, FOREHEAD
from data_tools.video.read import Box

HAIR = 0.32
"""Hair and skull above the face oval's top, in face heights (forehead point to chin point)."""

HEAD_FRACTION = 0.575
"""Head height (hair to chin) over the crop's side that a new crop aims at."""

ABOVE_HEAD = 0.12
"""Space above the hair over the crop's side that a new crop aims at."""

KEEP_FRACTION = (0.40, 0.82)
"""A square source whose head fraction lies here keeps its own frame."""


def head_extent(faces: np.ndarray) -> np.ndarray:
    """[N, 478, 2+] source pixels -> [N, 4]: left, top (with hair), right and bottom (chin) of the head."""
    xy = np.asarray(faces, np.float64)[..., :2]
    height = np.linalg.norm(xy[:, FOREHEAD] - xy[:, CHIN], axis=-1)
    low, high = xy.min(1), xy.max(1)
    return np.stack([low[:, 0], low[:, 1] - HAIR * height, high[:, 0], high[:, 1]], 1)


def choose_crop(faces: np.ndarray, width: int, height: int) -> tuple[Box, float]:
    """The crop for a clip.

    Args:
      faces: [N, 478, 2+] landmarks of the tracked face over the clip, source pixels.
      width, height: source pixels.

    Returns:
      The square (inside the picture) and the head's median height over its side.
    """
    extent = head_extent(faces)
    head = float(np.median(extent[:, 3] - extent[:, 1]))
    # 2 % to 98 %: one bad detection must not move the crop, but the head's real range must fit.
    left, top = np.percentile(extent[:, :2], 2, axis=0)
    right, bottom = np.percentile(extent[:, 2:], 98, axis=0)
    if width == height and KEEP_FRACTION[0] <= head / height <= KEEP_FRACTION[1]:
        return Box(0, 0, width), head / height
    # A head that moves about needs a larger square: its whole range plus the shoulders' share below.
    side = max(head / HEAD_FRACTION, (bottom - top) / (HEAD_FRACTION + 0.1), (right - left) / 0.8)
    side = int(min(round(side), width, height))
    x = int(np.clip(round((left + right) / 2.0 - side / 2.0), 0, width - side)) // 2 * 2
    y = int(np.clip(round(top - ABOVE_HEAD * side), 0, height - side)) // 2 * 2
    return Box(x, y, side), head / side
