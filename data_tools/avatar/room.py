"""The room behind a speaker, out of focus."""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.avatar.speakers import Speaker

_BLUR = 1.0 / 70.0
"""Standard deviation of the lens blur in picture widths: the wall is far behind the face."""


def make_background(speaker: Speaker, size: int) -> np.ndarray:
    """[size, size, 3] uint8: a wall lit from a window, with a shelf of books, blurred, darker towards the corners."""
    generator = np.random.default_rng([speaker.seed, 4])
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    wall = np.array(speaker.wall, np.float32)
    image = wall * (1.0 - 0.20 * x - 0.10 * y)[..., None]

    def box(x0: float, y0: float, x1: float, y1: float, colour: np.ndarray) -> None:
        image[int(y0 * size) : int(y1 * size), int(x0 * size) : int(x1 * size)] = colour

    frame = 0.5 * wall + 0.5 * np.array([214, 208, 200])
    box(0.02, 0.04, 0.25, 0.47, frame)
    box(0.04, 0.06, 0.23, 0.45, np.array([214, 224, 230]))
    box(0.128, 0.04, 0.142, 0.47, frame)
    box(0.02, 0.245, 0.25, 0.262, frame)
    box(0.0, 0.47, 0.27, 0.49, 0.85 * frame)
    box(0.74, 0.335, 1.0, 0.36, np.array([92, 72, 54]))
    box(0.74, 0.36, 1.0, 0.40, image[int(0.38 * size), int(0.9 * size)] * 0.82)
    left = 0.765
    while left < 0.99:
        width, height = generator.uniform(0.016, 0.034), generator.uniform(0.11, 0.17)
        # Faded covers: most of the way to a warm grey.
        box(left, 0.335 - height, left + width, 0.335, 0.3 * generator.uniform(40, 190, 3) + 0.7 * np.array([104, 94, 82]))
        left += width + 0.003
    image = cv2.GaussianBlur(image, (0, 0), _BLUR * size, borderType=cv2.BORDER_REPLICATE)
    glow = np.exp(-(((x - 0.13) / 0.30) ** 2) - ((y - 0.27) / 0.38) ** 2)
    corners = 1.0 - 0.34 * np.clip(np.hypot(x - 0.42, 0.85 * (y - 0.42)) - 0.18, 0.0, None)
    image = image * corners[..., None] + 14.0 * glow[..., None] * np.array([1.0, 0.98, 0.92], np.float32)
    image += generator.normal(0.0, 1.2, (size, size, 1))
    return np.clip(image, 0, 255).astype(np.uint8)
