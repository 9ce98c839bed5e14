"""A square pasted into a picture at a place that need not be whole pixels, its edge faded out."""

from __future__ import annotations

import functools

import cv2
import numpy as np


def paste(picture: np.ndarray, face: np.ndarray, corner: np.ndarray, side: int, feather: float) -> np.ndarray:
    """Puts a face where it was cut out.

    Args:
      picture: uint8 [H, W, 3].
      face: uint8 [n, n, 3].
      corner: [2] left and top of the square in the picture, pixels; the square lies inside it.
      side: of the square, pixels.
      feather: width of the faded edge over the side, 0 to 0.5; a side of the square that is the picture's own border is not faded.

    Returns:
      uint8 [H, W, 3].
    """
    height, width = picture.shape[:2]
    left, top = (int(np.floor(c)) for c in corner)
    fraction = float(corner[0]) - left, float(corner[1]) - top
    at_border = left <= 0, top <= 0, corner[0] + side >= width - 0.5, corner[1] + side >= height - 0.5
    moved = any(fraction)
    rows, columns = slice(top, min(top + side + moved, height)), slice(left, min(left + side + moved, width))
    patch = _resized(face, side).astype(np.float32)
    weight = fade(side, feather, at_border)
    if moved:
        # The square moves over by the fraction: what is sampled outside of it weighs nothing there.
        shift, shape = np.float64([[1, 0, fraction[0]], [0, 1, fraction[1]]]), (columns.stop - left, rows.stop - top)
        patch = cv2.warpAffine(patch, shift, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.warpAffine(weight, shift, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    under = picture[rows, columns].astype(np.float32)
    out = picture.copy()
    out[rows, columns] = np.round(np.clip(under + weight[..., None] * (patch - under), 0, 255)).astype(np.uint8)
    return out


@functools.lru_cache(maxsize=8)
def fade(side: int, feather: float, at_border: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """[side, side] float32 weight of the pasted square: 1 inside, falling as a raised cosine to 0 over `feather` * side at its edge.

    Args:
      at_border: whether the left, top, right and bottom side are kept at full weight.
    """
    width = max(feather * side, 1e-6)
    distance = np.arange(side) + 0.5
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / width, 0, 1))
    left, top, right, bottom = (np.ones(side) if border else ramp for border in at_border)
    return ((top * bottom[::-1])[:, None] * (left * right[::-1])[None]).astype(np.float32)


def _resized(face: np.ndarray, side: int) -> np.ndarray:
    if len(face) == side:
        return face
    return cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if side < len(face) else cv2.INTER_CUBIC)
