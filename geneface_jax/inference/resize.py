"""Changing the size of a picture: an exact area mean downwards, Lanczos upwards."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resamples one picture.

    Downwards every output pixel is the mean over its exact footprint (fractions of pixels included), rounded; upwards Lanczos.

    Args:
      image: uint8 [H, W, C] or [H, W].
      height, width: of the result.

    Returns:
      uint8 [height, width, C] or [height, width]; the input itself when the size is the same.
    """
    if image.shape[:2] == (height, width):
        return image
    if height > image.shape[0] or width > image.shape[1]:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    planes = image.reshape(image.shape[0], image.shape[1], -1).astype(np.float32)
    rows = np.tensordot(_area_weights(image.shape[0], height), planes, axes=(1, 0))
    out = np.tensordot(rows, _area_weights(image.shape[1], width), axes=(1, 1)).transpose(0, 2, 1)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8).reshape(height, width, *image.shape[2:])


@functools.lru_cache(maxsize=16)
def _area_weights(source: int, target: int) -> np.ndarray:
    """[target, source] float32: the share of each source pixel in each target pixel; rows sum to 1."""
    edges = np.arange(target + 1) * (source / target)
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * (target / source)).astype(np.float32)
