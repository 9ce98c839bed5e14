"""LPIPS of named pixels: how different two pictures look to a network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from geneface_jax.io.weights import find_lpips, load_lpips
from geneface_jax.models.lpips import SMALLEST, lpips

NET = "alex"
"""The network that papers report."""

GRANULE = 32
"""Sides of a region's crop are multiples of this, so that few sizes are compiled."""

HOW_TO_GET_IT = "n/a (get the weights with `python scripts/fetch_lpips.py`)"


class Perceptual:
    """The distance, with weights in memory.

    Attributes:
      weights: parameters of `models.lpips`.
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weights = weights

    @classmethod
    def find(cls, source: str | os.PathLike | None = None) -> Perceptual | None:
        """With the weights of a file (or folder), or of the user's cache; None when neither is named nor there.

        Raises:
          InputError: a file is named and can't be read.
        """
        if source is None and find_lpips(NET) is None:
            return None
        return cls(load_lpips(NET, source))

    def distance(self, image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
        """LPIPS 0.1 (AlexNet) of one frame.

        Of a region: the smallest square around it with a side of a multiple of 32 pixels is compared, and outside the region it shows the
        truth in both pictures, so that nothing but the region's pixels can make a difference.

        Args:
          image, truth: uint8 [H, W, 3].
          mask: bool [H, W]; None is the whole frame.

        Returns:
          the distance, 0 for equal pictures; nan for an empty mask or a frame smaller than the network can see.
        """
        if mask is not None:
            if not mask.any():
                return float("nan")
            rows, columns = crop_around(mask)
            image = np.where(mask[..., None], image, truth)[rows, columns]
            truth = truth[rows, columns]
        if min(image.shape[:2]) < SMALLEST[NET]:
            return float("nan")
        a, b = (x[None].astype(np.float32) / 255.0 for x in (image, truth))
        return float(lpips(a, b, self.weights)[0])


def crop_around(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the smallest square around a region, its side a multiple of `GRANULE` (or the frame's), inside the frame."""
    spans = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    longest = max(span[-1] - span[0] + 1 for span in spans)
    slices = []
    for span, length in zip(spans, mask.shape, strict=True):
        side = min(-(-longest // GRANULE) * GRANULE, length)
        start = int(np.clip((span[0] + span[-1] + 1 - side) // 2, 0, length - side))
        slices.append(slice(start, start + side))
    return slices[0], slices[1]
