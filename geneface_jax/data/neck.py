"""Where head and torso meet in a frame, roughly: the box that training looks at more often."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

STRIDE = 4
"""Masks are looked at on every so manieth pixel: a box need not be exact, and a video has thousands of frames."""


def neck_boxes(head_masks: np.ndarray, torso_alpha: np.ndarray, reach: float) -> np.ndarray:
    """The box around all pixels that are near both the head and what shows of the torso.

    Args:
      head_masks: uint8 [T, H, W], 255 = head.
      torso_alpha: uint8 [T, H, W], opacity of the torso picture, whose neck goes on behind the head.
      reach: pixels that count as near.

    Returns:
      [T, 4] int32 x0, y0, x1, y1; the whole picture for a frame where the two do not meet.
    """
    count, height, width = head_masks.shape
    boxes = np.tile(np.array([0, 0, width, height], np.int32), (count, 1))
    side = 2 * int(np.ceil(reach / STRIDE)) + 1
    for i in range(count):
        on_head = head_masks[i, ::STRIDE, ::STRIDE] >= 128
        shown = (torso_alpha[i, ::STRIDE, ::STRIDE] >= 128) & ~on_head
        both = ndimage.maximum_filter(on_head, side) & ndimage.maximum_filter(shown, side)
        rows, columns = np.nonzero(both)
        if len(rows):
            first, last = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            boxes[i] = np.minimum(np.array([*first, *last]) * STRIDE, [width, height, width, height])
    return boxes
