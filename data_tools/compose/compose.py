"""The whole of `compose`: a face video, back at its place in the video it was cut out of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from data_tools.compose.paste import paste
from data_tools.compose.playback import FILLS, played
from data_tools.errors import InputError
from data_tools.face.crop_record import CropRecord, load_record, record_path
from data_tools.video.encoder import EncoderOptions, check_output
from data_tools.video.probe import VideoInfo, probe
from data_tools.video.read import read_video
from data_tools.video.write import write_video

FEATHER = 0.06
"""Width of the faded edge over the crop's side; hair and shoulders begin further inside."""


def compose(
    face: str | os.PathLike,
    into: str | os.PathLike,
    out: str | os.PathLike,
    *,
    crop: str | os.PathLike | None = None,
    fill: str = "mirror",
    feather: float = FEATHER,
    options: EncoderOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Pastes a face video into the video that its square was cut out of.

    The result has the face's sound, length and frame rate and the other video's picture size (an odd last row or column is left out). Its
    frames are those of the crop: after the last one they are played back and forth, as `geneface infer` does with the head's pose, so that
    body and head keep together.

    Args:
      face: the result of `geneface infer`, square.
      into: the uncropped video.
      out: the mp4 to write.
      crop: where the square was: what `data_tools.crop` noted, or the subject; the note beside `face` when None.
      fill: what follows when the face is longer than the other video's frames: "mirror" or "hold" (the last one).
      feather: width of the faded edge over the square's side, 0 to 0.5.
      options: how to encode.
      progress: called as progress(frames done, frames in all).

    Returns:
      Number of frames.

    Raises:
      InputError: a file or value can't be used, or face, crop and video do not belong together.
    """
    options = (options or EncoderOptions()).validate()
    if fill not in FILLS:
        raise InputError(f"--fill is {fill!r}; choose {', '.join(FILLS)}")
    if not 0.0 <= feather <= 0.5:
        raise InputError(f"--feather is {feather!r}; give a number from 0 to 0.5")
    check_output(out, options, alpha=False)
    head, scene = probe(face), probe(into)
    record = load_record(crop if crop is not None else record_path(face))
    _check_match(Path(face), head, Path(into), scene, record)
    length = round(max(scene.seconds - record.start, 1.0 / head.fps) * head.fps)
    used = record.loop if record.loop is not None else record.frames
    if used is not None:
        length = min(length, max(round(used / record.fps * head.fps), 1))
    total = round(head.seconds * head.fps)

    def pictures():
        film = played(into, (scene.width, scene.height), head.fps, record.start, length, fill)
        for number, (square, (index, picture)) in enumerate(zip(read_video(face), film, strict=False)):
            at = min(round(index / head.fps * record.fps), len(record.corners) - 1)
            composed = paste(picture, square, record.corners[at], record.side, feather)
            yield composed[: scene.height // 2 * 2, : scene.width // 2 * 2]
            if progress is not None:
                progress(number + 1, max(total, number + 1))

    return write_video(out, pictures(), face if head.audio else None, head.fps, options)


def _check_match(face: Path, head: VideoInfo, into: Path, scene: VideoInfo, record: CropRecord) -> None:
    """Refuses what was not cut out of one another."""
    if head.width != head.height:
        raise InputError(
            f"the face {face} has {head.width}x{head.height} pixels, but crops are square: give the result of `geneface infer`."
        )
    if head.alpha:
        raise InputError(f"the face {face} has an alpha channel, through which the old face would show: make it with --bg original.")
    if (scene.width, scene.height) != (record.width, record.height):
        raise InputError(
            f"{into} has {scene.width}x{scene.height} pixels but the crop was cut out of {record.width}x{record.height}: give the video "
            "that was cropped, or the note of its crop with --crop."
        )
    if record.start >= scene.seconds:
        raise InputError(
            f"{into} ends at {scene.seconds:.2f} s but the crop begins at {record.start:.2f} s of its video: give the "
            "video that was cropped."
        )
