"""How much one visitor, and all of them together, may ask of the studio."""

from __future__ import annotations

import dataclasses

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused, politely, above these.

    Attributes:
      audio_bytes, image_bytes, video_bytes: size of one upload by kind.
      audio_seconds: length of a recording to be spoken.
      video_seconds: length of a video to train on.
      image_pixels: width times height of a background picture.
      message_bytes: any other request's body: controls and events, no files.
      waiting: renders that may wait for their turn while one is running.
      warm_people: people whose networks stay in memory.
      folder_bytes: everything in the private folder together.
      keep_seconds: after which uploads and results are deleted.
      preview_seconds: of the landmark preview, and of each half of a comparison.
      stream_seconds: how long the address of a stream can be used.
    """

    audio_bytes: int = 64 * MIB
    image_bytes: int = 16 * MIB
    video_bytes: int = 2048 * MIB
    audio_seconds: float = 600.0
    video_seconds: float = 1800.0
    image_pixels: int = 40_000_000
    message_bytes: int = 1 * MIB
    waiting: int = 8
    warm_people: int = 2
    folder_bytes: int = 8192 * MIB
    keep_seconds: int = 4 * 3600
    preview_seconds: float = 6.0
    stream_seconds: float = 600.0
