"""Picture operations of inference: resizing, alpha channels, backgrounds, the visible badge."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from data_tools.errors import InputError

# ----------------------------------------------------------------------------------------------------
# Changing the size of a picture: an exact area mean downwards, Lanczos upwards.


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


# ----------------------------------------------------------------------------------------------------
# From what a renderer has, colours times opacity, to pictures with an alpha channel as files hold them.

BLEED = 9
"""Pixels per side of the neighbourhood whose colour a transparent pixel takes: VP9 stores colour at half size, and black behind the edge
would shine through it."""

NEIGHBORS = 0.005
"""Weight of that neighbourhood: as much as the pixel itself at an opacity of about 5 %."""


def straight_rgba(color: np.ndarray, alpha: np.ndarray, size: int) -> np.ndarray:
    """Divides colours by their opacity, and carries them a few pixels beyond the outline.

    Args:
      colour: [H, W, 3] in [0, 1], multiplied by the opacity.
      alpha: [H, W] in [0, 1].
      size: pixels per side of the result; resampled before the division, so that edges keep their colour.

    Returns:
      uint8 [size, size, 4], alpha not multiplied into the colours.
    """
    levels = np.round(np.clip(np.concatenate([color, alpha[..., None]], -1), 0.0, 1.0) * 255.0).astype(np.uint8)
    picture = resize(levels, size, size).astype(np.float32)
    # Every pixel counts for its own colour by its opacity, and its neighbourhood by a little of what is missing: opaque colours stay as
    # they are, and those of all but transparent pixels, which rounding has made noise, become their neighbours'.
    opacity = picture[..., 3:] / 255.0
    spread = opacity * picture + NEIGHBORS * (1.0 - opacity) * ndimage.uniform_filter(picture, (BLEED, BLEED, 0))
    straight = spread[..., :3] / np.maximum(spread[..., 3:], 1e-4) * 255.0
    return np.concatenate([np.round(np.clip(straight, 0.0, 255.0)), picture[..., 3:]], -1).astype(np.uint8)


def without_background(picture: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """[..., 3] colours times opacity of something seen over a background: what is left of the picture when the background's share is taken.

    Args:
      picture, background: [..., 3] in [0, 1].
      alpha: [...] in [0, 1].
    """
    return np.clip(picture - (1.0 - alpha[..., None]) * background, 0.0, alpha[..., None])


# ----------------------------------------------------------------------------------------------------
# What stands behind the person: the subject's own background, a colour or a picture.


def load_background(bg: str, size: int) -> np.ndarray | None:
    """Resolves `Controls.bg`.

    Args:
      bg: "original", a colour as PIL understands it (name, #rgb, #rrggbb, rgb(...)), or an image file.
      size: H = W of the result in pixels.

    Returns:
      uint8 [size, size, 3], a picture being scaled to cover the square and cut at its centre; None for "original".

    Raises:
      InputError: neither a colour nor a readable picture.
    """
    if bg == "original":
        return None
    path = Path(bg)
    if path.is_file():
        try:
            with Image.open(path) as image:
                picture = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"--bg {bg} is not a picture that can be read; give a PNG or JPEG file") from error
        return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))
    try:
        color = ImageColor.getcolor(bg, "RGB")
    except ValueError as error:
        raise InputError(
            f"--bg {bg!r} is neither a file nor a colour; give 'original', a name such as green, #rrggbb or an image file"
        ) from error
    return np.full((size, size, 3), color, np.uint8)


# ----------------------------------------------------------------------------------------------------
# A visible label in the corner of every frame, for those who watch without looking into a file.

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
    color, alpha = plate[:rows, :columns, :3].astype(np.float32), plate[:rows, :columns, 3:].astype(np.float32) / 255.0
    corner[..., :3] = np.round(alpha * color + (1.0 - alpha) * corner[..., :3])
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
