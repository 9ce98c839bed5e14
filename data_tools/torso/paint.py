"""Torso images: the head taken away and the neck painted on upwards, so that no hole opens when the head moves."""

from __future__ import annotations

import cv2
import numpy as np

NECK_LENGTH = 53.0 / 512.0
"""How far the neck is painted upwards under the jaw, over the picture's side (GeneFace)."""

CLOTH_LENGTH = 9.0 / 512.0
"""The same for shoulders and hair beside the neck."""

FADE = 0.98
"""Darkening per pixel of a 512 px picture on the way up (GeneFace): the painted neck lies in the chin's shadow."""


def torso_image(frame: np.ndarray, person: np.ndarray, above_jaw: np.ndarray, neck: tuple[float, float]) -> np.ndarray:
    """RGBA torso of one frame.

    Args:
      frame: uint8 [H, W, 3].
      person: [H, W] float 0..1, soft person mask.
      above_jaw: [H, W] float 0..1, soft indicator of the head side of the jaw.
      neck: first and last column under the jaw.

    Returns:
      uint8 [H, W, 4]; colour is 0 where alpha is 0.
    """
    height, width = person.shape
    torso = person * (1.0 - above_jaw)
    alpha = np.where(above_jaw < 0.5, person, 0.0)
    solid = (person > 0.5) & (above_jaw < 0.05)
    border = solid[1:] & (person[:-1] > 0.5) & (above_jaw[:-1] >= 0.05)
    has_border = border.any(0)
    colour = frame.astype(np.float32)
    if has_border.any():
        colour, alpha = _paint_up(colour, alpha, torso, solid, border, has_border, neck)
    rgba = np.dstack([colour, 255.0 * alpha]).round().astype(np.uint8)
    rgba[rgba[..., 3] == 0] = 0
    return rgba


def _paint_up(colour, alpha, torso, solid, border, has_border, neck):
    """Continues each column that meets the head upwards with its own colour, smoothed across columns."""
    height, width = alpha.shape
    columns = np.arange(width)
    start = np.where(has_border, border.argmax(0) + 1, 0)
    under_jaw = has_border & (columns >= neck[0]) & (columns <= neck[1])
    length = np.where(under_jaw, NECK_LENGTH, CLOTH_LENGTH) * height
    length = np.where(has_border, cv2.GaussianBlur(length[None], (0, 0), 0.01 * height)[0], 0.0)
    # The colour to continue: a few rows below the border, clear of the jaw's soft edge, averaged across neighbouring columns.
    rows = np.clip(start + np.arange(2, 8)[:, None] * height // 512 + 1, 0, height - 1)
    weight = solid[rows, columns] * has_border + 1e-6
    sample = (colour[rows, columns] * weight[..., None]).sum(0)
    total = weight.sum(0)
    spread = (0.012 * height, 1e-3)
    sample = cv2.GaussianBlur(sample[None].astype(np.float32), (0, 0), spread[0])[0]
    total = cv2.GaussianBlur(total[None].astype(np.float32), (0, 0), spread[0])[0]
    base = sample / total.reshape(-1, 1)

    above = start - np.arange(height)[:, None]
    painted = has_border & (above >= 0) & (above <= length)
    shade = FADE ** (np.clip(above, 0, None) * 512.0 / height)
    paint = base * shade[..., None]
    # Under the jaw's soft edge the frame's own colour is partly face: blend over to the paint there.
    edge = np.clip((start + 3 * height / 512.0 - np.arange(height)[:, None]) / (4 * height / 512.0), 0.0, 1.0) * has_border
    mix = np.where(above >= 0, 1.0, edge)[..., None] * (painted | (edge > 0))[..., None]
    colour = colour * (1 - mix) + paint * mix
    fade_out = np.clip((length - above) / (3.0 * height / 512.0) + 1.0, 0.0, 1.0)
    alpha = np.where(painted, np.maximum(alpha, fade_out), alpha)
    return colour, alpha
