"""Picture operations of inference: resizing, alpha channels, backgrounds, the visible badge."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from data_tools.errors import InputError
from geneface_jax.typing import Float, Float32, UInt8

# -------- Resizing: exact area mean for downscaling, Lanczos for upscaling


def resize(image: UInt8[np.ndarray, "H W *C"], height: int, width: int) -> UInt8[np.ndarray, "H2 W2 *C"]:
    """Resamples one picture; returns the input itself if the size is unchanged.

    For downscaling each output pixel is the rounded mean over its exact footprint, fractions of pixels included.
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
def _area_weights(source: int, target: int) -> Float32[np.ndarray, "target source"]:
    """Share of each source pixel in each target pixel; rows sum to 1."""
    edges = np.arange(target + 1) * (source / target)
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * (target / source)).astype(np.float32)


# -------- Alpha channel: premultiplied colors to straight RGBA

BLEED = 9
"""Side in pixels of the neighborhood that colors a transparent pixel: VP9 stores color at half size, and black behind the edge would
bleed into it."""

NEIGHBORS = 0.005
"""Weight of that neighborhood: equal to the pixel's own at an opacity of about 5 %."""


def straight_rgba(color: Float[np.ndarray, "H W 3"], alpha: Float[np.ndarray, "H W"], size: int) -> UInt8[np.ndarray, "S S 4"]:
    """Premultiplied color and alpha in [0, 1] -> straight RGBA, with colors extended a few pixels beyond the outline.

    The picture is resampled to `size` before the division, so that edges keep their color.
    """
    levels = np.round(np.clip(np.concatenate([color, alpha[..., None]], -1), 0.0, 1.0) * 255.0).astype(np.uint8)
    picture = resize(levels, size, size).astype(np.float32)
    # Weighted mean of a pixel's own color (by its opacity) and its neighborhood's (by a little of the rest): opaque colors are unchanged,
    # and the colors of nearly transparent pixels, which are rounding noise, are replaced by their neighbors'.
    opacity = picture[..., 3:] / 255.0
    spread = opacity * picture + NEIGHBORS * (1.0 - opacity) * ndimage.uniform_filter(picture, (BLEED, BLEED, 0))
    straight = spread[..., :3] / np.maximum(spread[..., 3:], 1e-4) * 255.0
    return np.concatenate([np.round(np.clip(straight, 0.0, 255.0)), picture[..., 3:]], -1).astype(np.uint8)


def without_background(
    picture: Float[np.ndarray, "*batch 3"], alpha: Float[np.ndarray, "*batch"], background: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3"]:
    """Premultiplied foreground of a composite: the picture minus the background's share, all in [0, 1]."""
    return np.clip(picture - (1.0 - alpha[..., None]) * background, 0.0, alpha[..., None])


# -------- Backgrounds


def load_background(bg: str, size: int) -> UInt8[np.ndarray, "S S 3"] | None:
    """Resolves `Controls.bg`.

    Args:
      bg: "original", a color as PIL understands it (name, #rgb, #rrggbb, rgb(...)), or an image file.
      size: H = W of the result in pixels.

    Returns:
      the picture, scaled to cover the square and center-cropped; None for "original".

    Raises:
      InputError: neither a color nor a readable picture.
    """
    if bg == "original":
        return None
    path = Path(bg)
    if path.is_file():
        try:
            with Image.open(path) as image:
                picture = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"--bg {bg} is not a picture that can be read: give a PNG or JPEG file.") from error
        return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))
    try:
        color = ImageColor.getcolor(bg, "RGB")
    except ValueError as error:
        raise InputError(
            f"--bg {bg!r} is neither a file nor a color: give 'original', a name such as green, #rrggbb or an image file."
        ) from error
    return np.full((size, size, 3), color, np.uint8)


# -------- Visible label in the corner of every frame

BADGE_TEXT = "AI-generated"
HEIGHT_SHARE, MARGIN_SHARE = 0.045, 0.02
"""Height of the letters and distance from the corner, as shares of the picture's height."""
PLATE_COLOR, TEXT_COLOR = (20, 22, 26, 170), (255, 255, 255, 255)


def with_badge(frame: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """A copy of an RGB or RGBA frame with the label in the lower left corner."""
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
def _plate(height: int) -> UInt8[np.ndarray, "h w 4"]:
    """The label in RGBA for a picture of this height."""
    size = max(round(HEIGHT_SHARE * height), 7)
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(BADGE_TEXT)
    pad = max(size // 3, 2)
    plate = Image.new("RGBA", (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad), PLATE_COLOR)
    ImageDraw.Draw(plate).text((pad - left, pad - top), BADGE_TEXT, fill=TEXT_COLOR, font=font)
    return np.asarray(plate)
