"""Skin tiles other than the face: neck, ears and the skull, with the shadows that rest on them."""

from __future__ import annotations

import numpy as np

from data_tools.avatar.paint import around, mottle, smoothstep


def _uv(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x + 0.5) / shape[1], (y + 0.5) / shape[0]


def paint_skull(shape: tuple[int, int], skin: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB: skin behind the face's boundary, darker where hair, ears and jaw keep the light off."""
    u, _ = _uv(shape)
    # It goes on as the face's tile ends (`paint_face`): in the hair's shadow above, in the jaw's below.
    shade = 0.16 + 0.18 * smoothstep(np.abs((u + 0.5) % 1.0 - 0.5), 0.32, 0.24)
    return skin * around(shape, lambda s: mottle(s, generator)) * (1.0 - shade[..., None] * np.array([0.85, 1.0, 1.05]))


def paint_neck(shape: tuple[int, int], skin: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB: u around the neck from the back, v down; the head's soft shadow under the chin, the tendons, the collar's shade."""
    u, v = _uv(shape)
    side = (u - 0.5) * 2.0 * np.pi  # 0 at the front, > 0 on the image's right
    # The shadow's lower edge hangs lowest under the chin, on the side away from the key light.
    edge = 0.70 + 0.10 * np.exp(-(((side - 0.25) / 0.75) ** 2))
    shadow = 0.42 * smoothstep(v, edge + 0.16, edge - 0.12)
    tendons = sum(np.exp(-(((side - s * (0.95 - 0.75 * v)) / 0.16) ** 2)) for s in (-1.0, 1.0)) * smoothstep(v, 0.5, 0.9)
    notch = np.exp(-((side / 0.16) ** 2) - ((v - 1.0) / 0.09) ** 2)
    factor = (1.0 - shadow) * (1.0 + 0.045 * tendons) * (1.0 - 0.10 * notch) * (1.0 - 0.30 * smoothstep(v, 0.90, 1.0))
    warm = np.stack([np.ones(shape), 1.0 - 0.10 * shadow, 1.0 - 0.14 * shadow], axis=-1)
    return skin * around(shape, lambda s: mottle(s, generator)) * factor[..., None] * warm


def paint_ear(shape: tuple[int, int], skin: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB: u turns from the front of the ear below its lobe, v runs from the hollow over the rim to the head."""
    u, v = _uv(shape)
    angle = (2.0 * np.pi * u + np.pi) % (2.0 * np.pi)
    lobe = np.exp(-(((angle - 1.5 * np.pi) / 0.55) ** 2))
    front = np.exp(-(((angle - np.pi) / 0.6) ** 2))
    hollow = 0.60 * smoothstep(v, 0.36, 0.12) * (1.0 - 0.5 * lobe)
    groove = 0.36 * np.exp(-(((v - 0.56) / 0.07) ** 2)) * (1.0 - lobe) * (1.0 - front)
    behind = 0.28 * smoothstep(v, 0.84, 1.0)
    ridge = 0.07 * np.exp(-(((v - 0.40) / 0.06) ** 2)) + 0.08 * np.exp(-(((v - 0.72) / 0.07) ** 2))
    factor = (1.0 - hollow) * (1.0 - groove) * (1.0 - behind) * (1.0 + ridge)
    # Thin skin: the darker, the redder.
    dark = 1.0 - factor
    tint = np.stack([1.03 + 0.08 * dark, 0.95 - 0.14 * dark, 0.94 - 0.16 * dark], axis=-1)
    return skin * around(shape, lambda s: mottle(s, generator)) * factor[..., None] * tint
