"""The pixels a figure is about: face hull, head, mouth, and the band where head and torso meet."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

HULL_DILATION = 15
"""Side in pixels, at 256x256, of the square that widens the face hull; scaled with the size."""

NECK_BAND = 16
"""Width in pixels, at 256x256, of the band around the border between head and torso; scaled with the size."""

MOUTH_SCALE = 1.5
"""Sides of the mouth region over those of the lip box."""


def face_hull(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Convex hull of a frame's landmarks, dilated by a 15x15 square at 256x256.

    Args:
      landmarks: [N, 2 or more] pixels at `size`; x, y first. Pixel (0, 0) covers [0, 1) x [0, 1).
      size: H = W.

    Returns:
      bool [size, size]; all False when the points span no area.
    """
    points = np.asarray(landmarks, np.float64)[:, :2]
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return np.zeros((size, size), bool)
    canvas = Image.new("1", (size, size))
    # Image coordinates name pixel centres, landmarks name positions: half a pixel apart.
    ImageDraw.Draw(canvas).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
    side = 2 * round((HULL_DILATION // 2) * size / 256) + 1
    return ndimage.maximum_filter(np.asarray(canvas, np.uint8), size=side, mode="constant") > 0


def head(mask: np.ndarray) -> np.ndarray:
    """Soft head mask uint8 [H, W] -> bool [H, W]: more head than not."""
    return mask >= 128


def neck_band(head_mask: np.ndarray, torso_alpha: np.ndarray) -> np.ndarray:
    """Where head and torso meet: a band 16 pixels wide, at 256x256, along their border in the true frame.

    A pixel belongs to it when both the head and what shows of the torso (its opacity less the head) are at most 8 pixels away. A seam or a
    second chin lies in here.

    Args:
      head_mask: uint8 [H, W], 255 = head.
      torso_alpha: uint8 [H, W], opacity of the torso picture, whose neck goes on behind the head.

    Returns:
      bool [H, W]; all False where they do not meet.
    """
    on_head = head(head_mask)
    shown = (torso_alpha >= 128) & ~on_head
    if not on_head.any() or not shown.any():
        return np.zeros_like(on_head)
    reach = NECK_BAND / 2 * on_head.shape[0] / 256
    return (ndimage.distance_transform_edt(~on_head) <= reach) & (ndimage.distance_transform_edt(~shown) <= reach)


def mouth(lip_box: np.ndarray, size: int, source_size: int | None = None) -> np.ndarray:
    """The lip box about its centre, 1.5 times as wide and high.

    Args:
      lip_box: [4] x0, y0, x1, y1 in pixels at `source_size`, x1 and y1 exclusive.
      size: H = W of the result.
      source_size: size the box was measured at; `size` when None.

    Returns:
      bool [size, size].
    """
    box = np.asarray(lip_box, np.float64) * (size / (source_size or size))
    centre, half = (box[:2] + box[2:]) / 2, MOUTH_SCALE * (box[2:] - box[:2]) / 2
    x0, y0 = np.clip(np.rint(centre - half), 0, size).astype(int)
    x1, y1 = np.clip(np.rint(centre + half), 0, size).astype(int)
    out = np.zeros((size, size), bool)
    out[y0:y1, x0:x1] = True
    return out
