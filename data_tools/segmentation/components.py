"""Keeping what hangs together with the face."""

from __future__ import annotations

import cv2
import numpy as np


def attached(mask: np.ndarray, seed: tuple[float, float]) -> np.ndarray:
    """The connected part of a mask that holds a point.

    Args:
      mask: [H, W] bool.
      seed: x, y in pixels; where the mask is False there, its largest part is taken.

    Returns:
      [H, W] bool.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count <= 2:
        return mask.copy()
    x, y = (int(np.clip(round(value), 0, side - 1)) for value, side in zip(seed, mask.shape[::-1], strict=True))
    label = labels[y, x] or 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return labels == label


def detached(soft: np.ndarray, seed: tuple[float, float], reach: int = 4) -> np.ndarray:
    """Where a soft mask shows something that does not hang together with the seed.

    Args:
      soft: [H, W] float 0..1.
      seed: x, y in pixels.
      reach: pixels around those parts that are counted in, for their soft edges.

    Returns:
      [H, W] bool.
    """
    solid = soft > 0.5
    apart = (solid & ~attached(solid, seed)).astype(np.uint8)
    return cv2.dilate(apart, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
