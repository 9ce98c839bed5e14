"""A clip cut into fixed chunks of frames: the unit of work, of resuming and of memory.

Every chunk is decoded by itself, from a second before its start, whether or not the chunk before it was just worked on. So an interrupted
run, a run with several workers and an undisturbed one see the same frames and give the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.video.read import FPS, Box, frames

CHUNK_FRAMES = 250
"""Ten seconds: the most work a killed run loses. A whole number of seconds, so that a seek falls on a frame of the 25 fps grid."""

PREROLL_FRAMES = 25
"""Frames decoded before a chunk: the frame rate converter has settled then, and a tracker gets the last of them to find its face."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Frames [first, end) of the clip."""

    index: int
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclasses.dataclass(frozen=True)
class Source:
    """What is decoded: a file, its crop, the seconds used, and the side of the square pictures that come out."""

    video: Path
    box: Box
    trim: tuple[float, float] | None
    size: int


def plan(n_frames: int) -> list[Chunk]:
    """The chunks of a clip of n_frames; the last one may be short."""
    return [Chunk(i, first, min(first + CHUNK_FRAMES, n_frames)) for i, first in enumerate(range(0, n_frames, CHUNK_FRAMES))]


def chunk_frames(source: Source, chunk: Chunk, preroll: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes one chunk.

    Args:
      source: the clip.
      chunk: the frames wanted.
      preroll: how many of the frames before the chunk come out first, at most `PREROLL_FRAMES`.

    Yields:
      (number of the frame in the clip, uint8 [size, size, 3]). A file that ends early yields fewer frames, perhaps none.

    Raises:
      InputError: the first chunk holds no frame, or ffmpeg gave up in the middle of one.
    """
    start, stop = source.trim or (0.0, float("inf"))
    decoded_from = max(chunk.first - PREROLL_FRAMES, 0)
    # Half a second more is read than used: what the frame rate converter does at the end of its input must not show inside a clip.
    span = (start + decoded_from / FPS, min(start + chunk.end / FPS + 0.5, stop))
    number = decoded_from
    stream = frames(source.video, (source.size, source.size), crop=source.box, trim=span)
    try:
        for frame in stream:
            if number >= chunk.end:
                return
            if number >= chunk.first - preroll:
                yield number, frame
            number += 1
    except InputError:
        if chunk.first == 0 or number > decoded_from:
            raise
    finally:
        stream.close()
