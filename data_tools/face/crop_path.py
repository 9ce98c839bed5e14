"""A crop that goes with the head: a square of one size whose centre moves smoothly, for people who walk or lean about."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from data_tools.face.crop import ABOVE_HEAD, HEAD_FRACTION, head_extent

SMOOTH_SECONDS = 0.8
"""Standard deviation of the Gaussian that smooths the centre: slow enough that nods and speech stay in the picture, quick enough for a
step to the side."""


def follow_crop(faces: np.ndarray, width: int, height: int, fps: float) -> tuple[np.ndarray, int]:
    """The crop of every frame.

    Args:
      faces: [T, 478, 2+] landmarks of the tracked face in every frame, source pixels.
      width, height: source pixels.
      fps: frames per second of `faces`.

    Returns:
      [T, 2] float64 left and top of the square, inside the picture, in source pixels and fractions of them; and its side, for all frames.
    """
    extent = head_extent(faces)
    head = float(np.median(extent[:, 3] - extent[:, 1]))
    side = int(min(round(head / HEAD_FRACTION / 2.0) * 2, width // 2 * 2, height // 2 * 2))
    centre = np.stack([(extent[:, 0] + extent[:, 2]) / 2.0, extent[:, 1] - ABOVE_HEAD * side + side / 2.0], 1)
    # A running median first: one bad detection must not pull at the frames around it.
    steady = ndimage.median_filter(centre, (max(round(0.2 * fps) // 2 * 2 + 1, 1), 1), mode="nearest")
    smooth = ndimage.gaussian_filter1d(steady, SMOOTH_SECONDS * fps, axis=0, mode="nearest")
    return np.clip(smooth - side / 2.0, 0.0, [width - side, height - side]), side
