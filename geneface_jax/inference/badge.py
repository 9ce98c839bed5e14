"""A visible label in the corner of every frame, for those who watch without looking into a file."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = "AI-generated"
HEIGHT_SHARE, MARGIN_SHARE = 0.045, 0.02
"""Height of the letters and distance from the corner, as shares of the picture's height."""
PLATE, INK = (20, 22, 26, 170), (255, 255, 255, 255)


def with_badge(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] or RGBA [H, W, 4] with the label in the lower left corner; the frame itself is left alone."""
    height, width = frame.shape[:2]
    plate = _plate(height)
    rows, columns = min(plate.shape[0], height), min(plate.shape[1], width)
    margin = min(round(MARGIN_SHARE * height), height - rows, width - columns)
    top = height - margin - rows
    result = frame.copy()
    corner = result[top : top + rows, margin : margin + columns]
    colour, alpha = plate[:rows, :columns, :3].astype(np.float32), plate[:rows, :columns, 3:].astype(np.float32) / 255.0
    corner[..., :3] = np.round(alpha * colour + (1.0 - alpha) * corner[..., :3])
    if frame.shape[2] == 4:
        corner[..., 3:] = np.round(255.0 * (alpha + (1.0 - alpha) * corner[..., 3:] / 255.0))
    return result


@functools.lru_cache(maxsize=8)
def _plate(height: int) -> np.ndarray:
    """uint8 RGBA [h, w, 4] for a picture of this height."""
    size = max(round(HEIGHT_SHARE * height), 7)
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(WORDS)
    pad = max(size // 3, 2)
    plate = Image.new("RGBA", (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad), PLATE)
    ImageDraw.Draw(plate).text((pad - left, pad - top), WORDS, fill=INK, font=font)
    return np.asarray(plate)
