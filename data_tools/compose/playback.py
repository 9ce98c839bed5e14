"""A video made as long as it has to be: its frames back and forth, or the last one held."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from data_tools.video.read import frames

FILLS = ("mirror", "hold")
CHUNK_BYTES = 128 * 2**20
"""Memory for frames that are shown backwards: they are decoded forwards, a piece at a time."""


def played(
    video: str | os.PathLike, size: tuple[int, int], fps: float, start: float, length: int, fill: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (source frame, picture) for ever.

    Args:
      video: local file.
      size: (width, height) of the pictures.
      fps: frames per second.
      start: seconds at which source frame 0 lies.
      length: source frames to use, at least 1; fewer are used where the file ends before.
      fill: what follows after the last of them: "mirror" (back and forth, the ends shown once) or "hold" (the last one).

    Raises:
      InputError: as `read.frames`.
    """

    def piece(first: int, end: int) -> Iterator[tuple[int, np.ndarray]]:
        # Half a frame more than needed, so that rounding never costs the last one.
        span = start + first / fps, start + (end + 0.5) / fps
        return zip(range(first, end), frames(video, size, trim=span, fps=fps), strict=False)

    at_once = max(CHUNK_BYTES // (3 * size[0] * size[1]), 1)
    while True:
        for shown in piece(0, length):
            yield shown
        while fill == "hold" or shown[0] == 0:
            yield shown
        length = shown[0] + 1
        for end in range(length - 1, 1, -at_once):
            yield from reversed(list(piece(max(end - at_once, 1), end)))
