"""Divides the person into head and torso: along the jaw, from landmarks alone, or by the classes of a segmenter that knows some."""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.face.geometry import CHIN, FOREHEAD, JAW_LINE

WORK_SIZE = 256
"""Pixels of the square the masks are made on; larger pictures get them scaled up."""

JAW_MARGIN = 0.025
"""The jaw line moved outward, in face heights: MediaPipe's oval runs just inside the skin's shadow edge."""

HAIR_REACH = 0.06
"""How far beside the ear lobe hair may hang to the chin line, in face heights."""

CHIN_LINE = 0.06
"""Beside the jaw, everything lower than this far below the chin (in face heights) belongs to the torso."""


def head_region(landmarks: np.ndarray, size: int = WORK_SIZE) -> np.ndarray:
    """Soft indicator of "above the jaw".

    The border follows the jaw line from ear lobe to ear lobe; outside it drops to the chin line and then climbs, so that hair beside the
    face is head, and what hangs lower or lies on the shoulders is torso.

    Args:
      landmarks: [478, 2+] pixels of a size x size picture.
      size: pixels.

    Returns:
      [size, size] float32, 1 = head side, with an edge about two pixels wide.
    """
    xy = np.asarray(landmarks, np.float64)[:, :2]
    up = xy[FOREHEAD] - xy[CHIN]
    height = float(np.linalg.norm(up))
    up /= height
    right = np.array([-up[1], up[0]])
    jaw = xy[JAW_LINE]
    centre = xy[FOREHEAD] * 0.5 + xy[CHIN] * 0.5
    outward = jaw - centre
    jaw = jaw + JAW_MARGIN * height * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    chin_line = xy[CHIN] - CHIN_LINE * height * up
    far = 4.0 * size

    def side(lobe: np.ndarray, direction: float) -> list[np.ndarray]:
        """From the lobe outward and down to the chin line, then along it out of the picture."""
        across = float((lobe - chin_line) @ right)
        corner = chin_line + (across + direction * HAIR_REACH * height) * right
        # From there the border climbs at 45 degrees: a raised shoulder beside the head lies under it, hair does not reach it.
        return [corner, corner + far * (direction * right + up)]

    # The jaw's ends lie at the ears' upper part; the border leaves it at the lobes (third point from each end).
    lobe_left, lobe_right = jaw[2], jaw[-3]
    left, inner, right_side = side(lobe_left, -1.0), jaw[2:-2], side(lobe_right, 1.0)
    polygon = np.array([*reversed(left), *inner, *right_side])
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), size / 256.0).astype(np.float32) / 255.0


def head_share(layers: np.ndarray) -> np.ndarray:
    """Soft indicator of the head from a segmenter's classes: what of the person is neither neck nor clothes (as in GeneFace++).

    Args:
      layers: [4, H, W] float32 person, hair, neck, clothes.

    Returns:
      [H, W] float32, 1 = head side.
    """
    person, _, neck, clothes = layers
    share = 1.0 - (neck + clothes) / np.maximum(person, 1e-3)
    return cv2.GaussianBlur(np.clip(share, 0.0, 1.0).astype(np.float32), (0, 0), layers.shape[-1] / 256.0)
