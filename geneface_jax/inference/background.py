"""What stands behind the person: the subject's own background, a colour or a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps

from data_tools.errors import InputError


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
        colour = ImageColor.getcolor(bg, "RGB")
    except ValueError as error:
        raise InputError(
            f"--bg {bg!r} is neither a file nor a colour; give 'original', a name such as green, #rrggbb or an image file"
        ) from error
    return np.full((size, size, 3), colour, np.uint8)
