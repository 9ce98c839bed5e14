"""Pixels of one frame, most of them in a box, none of them twice (AD-NeRF's sampling)."""

from __future__ import annotations

import numpy as np


def draw_box_pixels(rng: np.random.Generator, box: np.ndarray, share: float, rays: int, size: tuple[int, int]) -> np.ndarray:
    """Draws pixels inside and outside a box, both without replacement.

    Where one side has too few pixels the other one fills up; where the whole picture has, some are drawn again.

    Args:
      rng: source of randomness.
      box: [4] x0, y0, x1, y1, the ends exclusive, inside the picture.
      share: part of the pixels that lie inside, in [0, 1].
      rays: R, how many pixels.
      size: (height, width).

    Returns:
      [R, 2] int32 (row, column), in random order.
    """
    height, width = size
    x0, y0, x1, y1 = (int(edge) for edge in box)
    inside = np.zeros((height, width), bool)
    inside[y0:y1, x0:x1] = True
    inner, outer = np.flatnonzero(inside), np.flatnonzero(~inside)
    from_inner = min(round(share * rays), len(inner))
    from_inner = max(from_inner, min(rays - len(outer), len(inner)))
    chosen = [rng.choice(inner, from_inner, replace=False), rng.choice(outer, min(rays - from_inner, len(outer)), replace=False)]
    missing = rays - sum(map(len, chosen))
    chosen.append(rng.integers(0, height * width, missing))
    return np.stack(np.divmod(rng.permutation(np.concatenate(chosen)), width), axis=-1).astype(np.int32)
