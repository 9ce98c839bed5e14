"""Brushes that the tiles of the texture atlas share: smooth noise, soft spots and soft lines (pixels, float32)."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def noise(shape: tuple[int, int], sigma: float, generator: np.random.Generator) -> np.ndarray:
    """[H, W] smooth noise with standard deviation 1 and features of about `sigma` pixels."""
    value = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigma)
    return value / value.std()


def mottle(shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] factor around 1: skin is a little uneven, redder in some places."""
    coarse, middle, fine = (noise(shape, sigma, generator) for sigma in (24.0, 6.0, 1.4))
    value = 1.0 + 0.012 * coarse + 0.010 * middle + 0.014 * fine
    red = 0.012 * noise(shape, 18.0, generator)
    return np.stack([value + red, value - 0.5 * red, value - 0.5 * red], axis=-1)


def around(shape: tuple[int, int], painter: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
    """A tile whose last column continues in its first: the middle of `painter`'s picture cross-faded with itself shifted half way."""
    height, width = shape
    picture = painter(shape)
    shifted = np.roll(picture, width // 2, axis=1)
    weight = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(width) + 0.5) / width)
    weight = weight.reshape(1, width, *[1] * (picture.ndim - 2))
    return picture * weight + shifted * (1.0 - weight)


def blob(shape: tuple[int, int], centre: np.ndarray, radius: tuple[float, float]) -> np.ndarray:
    """[H, W, 1] Gaussian spot, 1 at its `centre` (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return np.exp(-(((x - centre[0]) / radius[0]) ** 2) - ((y - centre[1]) / radius[1]) ** 2)[..., None]


def stroke(shape: tuple[int, int], points: np.ndarray, thickness: int, blur: float, closed: bool = False) -> np.ndarray:
    """[H, W, 1] line through `points` [N, 2], blurred by `blur` pixels."""
    canvas = np.zeros(shape, np.float32)
    cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], closed, 1.0, thickness, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(canvas, (0, 0), blur)[..., None]


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; `low` > `high` falls instead."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
