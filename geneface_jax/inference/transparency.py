"""From what a renderer has, colours times opacity, to pictures with an alpha channel as files hold them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geneface_jax.inference.resize import resize

BLEED = 9
"""Pixels per side of the neighbourhood whose colour a transparent pixel takes: VP9 stores colour at half size, and black behind the edge
would shine through it."""

NEIGHBOURS = 0.005
"""Weight of that neighbourhood: as much as the pixel itself at an opacity of about 5 %."""


def straight_rgba(colour: np.ndarray, alpha: np.ndarray, size: int) -> np.ndarray:
    """Divides colours by their opacity, and carries them a few pixels beyond the outline.

    Args:
      colour: [H, W, 3] in [0, 1], multiplied by the opacity.
      alpha: [H, W] in [0, 1].
      size: pixels per side of the result; resampled before the division, so that edges keep their colour.

    Returns:
      uint8 [size, size, 4], alpha not multiplied into the colours.
    """
    levels = np.round(np.clip(np.concatenate([colour, alpha[..., None]], -1), 0.0, 1.0) * 255.0).astype(np.uint8)
    picture = resize(levels, size, size).astype(np.float32)
    # Every pixel counts for its own colour by its opacity, and its neighbourhood by a little of what is missing: opaque colours stay as
    # they are, and those of all but transparent pixels, which rounding has made noise, become their neighbours'.
    opacity = picture[..., 3:] / 255.0
    spread = opacity * picture + NEIGHBOURS * (1.0 - opacity) * ndimage.uniform_filter(picture, (BLEED, BLEED, 0))
    straight = spread[..., :3] / np.maximum(spread[..., 3:], 1e-4) * 255.0
    return np.concatenate([np.round(np.clip(straight, 0.0, 255.0)), picture[..., 3:]], -1).astype(np.uint8)


def without_background(picture: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """[..., 3] colours times opacity of something seen over a background: what is left of the picture when the background's share is taken.

    Args:
      picture, background: [..., 3] in [0, 1].
      alpha: [...] in [0, 1].
    """
    return np.clip(picture - (1.0 - alpha[..., None]) * background, 0.0, alpha[..., None])
