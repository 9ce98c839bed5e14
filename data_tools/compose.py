"""Pastes a face video made by `geneface infer` back into the uncropped video, at the position recorded by the crop."""

import argparse
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from data_tools.command_line import run_program
from data_tools.encoder import EncoderOptions, add_encoder_arguments, check_output, encoder_values
from data_tools.errors import InputError
from data_tools.face.crop import CropRecord, load_record, record_path
from data_tools.ffmpeg import VideoInfo, probe
from data_tools.picture import corrections
from data_tools.video import frames, read_video, write_video

logger = logging.getLogger(__name__)


def paste(picture: np.ndarray, face: np.ndarray, corner: np.ndarray, side: int, feather: float) -> np.ndarray:
    """Pastes a square face into a picture at a subpixel position, with feathered edges.

    Args:
      picture: uint8 [H, W, 3].
      face: uint8 [n, n, 3].
      corner: [2] left and top of the square in the picture, pixels; the square lies inside the picture.
      side: of the square, pixels.
      feather: width of the feathered edge over the side, 0 to 0.5; an edge that lies on the picture's border is not feathered.

    Returns:
      uint8 [H, W, 3].
    """
    height, width = picture.shape[:2]
    left, top = (int(np.floor(c)) for c in corner)
    fraction = float(corner[0]) - left, float(corner[1]) - top
    at_border = left <= 0, top <= 0, corner[0] + side >= width - 0.5, corner[1] + side >= height - 0.5
    moved = any(fraction)
    rows, columns = slice(top, min(top + side + moved, height)), slice(left, min(left + side + moved, width))
    patch = _resized(face, side).astype(np.float32)
    weight = fade(side, feather, at_border)
    if moved:
        # Shifts by the fraction of a pixel; samples from outside the square get weight 0.
        shift, shape = np.float64([[1, 0, fraction[0]], [0, 1, fraction[1]]]), (columns.stop - left, rows.stop - top)
        patch = cv2.warpAffine(patch, shift, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.warpAffine(weight, shift, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    background = picture[rows, columns].astype(np.float32)
    out = picture.copy()
    out[rows, columns] = np.round(np.clip(background + weight[..., None] * (patch - background), 0, 255)).astype(np.uint8)
    return out


@functools.lru_cache(maxsize=8)
def fade(side: int, feather: float, at_border: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """[side, side] float32 weight of the pasted square: 1 inside, falling as a raised cosine to 0 over `feather` * side at its edges.

    Args:
      at_border: whether the left, top, right and bottom edges keep the full weight.
    """
    width = max(feather * side, 1e-6)
    distance = np.arange(side) + 0.5
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / width, 0, 1))
    left, top, right, bottom = (np.ones(side) if border else ramp for border in at_border)
    return ((top * bottom[::-1])[:, None] * (left * right[::-1])[None]).astype(np.float32)


def _resized(face: np.ndarray, side: int) -> np.ndarray:
    if len(face) == side:
        return face
    return cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if side < len(face) else cv2.INTER_CUBIC)


# -------- Extending the source video to the face video's length

FILLS = ("mirror", "hold")
CHUNK_BYTES = 128 * 2**20
"""Memory for frames played backwards: they are decoded forwards, one chunk at a time."""


def looped_frames(
    video: str | os.PathLike, size: tuple[int, int], fps: float, start: float, length: int, fill: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (source frame index, picture) endlessly.

    Args:
      video: local file.
      size: (width, height) of the pictures.
      fps: frames per second.
      start: seconds of the video at source frame 0.
      length: source frames to use, at least 1; fewer are used if the file ends earlier.
      fill: what follows the last frame: "mirror" (back and forth, without repeating the end frames) or "hold" (the last frame).

    Raises:
      InputError: as `read.frames`.
    """

    def decoded(first: int, end: int) -> Iterator[tuple[int, np.ndarray]]:
        # Half a frame more than needed, so that rounding never loses the last one.
        span = start + first / fps, start + (end + 0.5) / fps
        return zip(range(first, end), frames(video, size, trim=span, fps=fps), strict=False)

    chunk = max(CHUNK_BYTES // (3 * size[0] * size[1]), 1)
    while True:
        for last in decoded(0, length):
            yield last
        while fill == "hold" or last[0] == 0:
            yield last
        length = last[0] + 1
        for end in range(length - 1, 1, -chunk):
            yield from reversed(list(decoded(max(end - chunk, 1), end)))


# -------- `compose`

FEATHER = 0.06
"""Width of the feathered edge over the crop's side; hair and shoulders begin further inside."""


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
    """Pastes a face video into the uncropped video.

    The result has the sound, length and frame rate of `face` and the picture size of `into` (an odd last row or column is dropped). With
    fill "mirror" the frames of `into` play back and forth as `geneface infer` plays the head's poses, so that body and head stay together.

    Args:
      face: the result of `geneface infer`, square.
      into: the uncropped video.
      out: the mp4 to write.
      crop: a crop record or a subject folder; None means the crop record next to `face`.
      fill: how `into` is extended if the face is longer: "mirror" or "hold" (the last frame).
      feather: width of the feathered edge over the square's side, 0 to 0.5.
      options: encoder options.
      progress: called as progress(frames done, total frames).

    Returns:
      Number of frames.

    Raises:
      InputError: a file or value can't be used, or face, crop and video do not belong together.
    """
    options = (options or EncoderOptions()).validate()
    if fill not in FILLS:
        raise InputError(f"--fill is {fill!r}: choose {' or '.join(FILLS)}.")
    if not 0.0 <= feather <= 0.5:
        raise InputError(f"--feather is {feather!r}: give a number from 0 to 0.5.")
    check_output(out, options, alpha=False)
    head, scene = probe(face), probe(into)
    record = load_record(crop if crop is not None else record_path(face))
    _check_match(Path(face), head, Path(into), scene, record)
    length = round(max(scene.seconds - record.start, 1.0 / head.fps) * head.fps)
    n_used = record.loop if record.loop is not None else record.frames
    if n_used is not None:
        length = min(length, max(round(n_used / record.fps * head.fps), 1))
    total = round(head.seconds * head.fps)
    for note in corrections(into).notes:
        logger.info("%s: %s", into, note)

    def composite():
        backgrounds = looped_frames(into, (scene.width, scene.height), head.fps, record.start, length, fill)
        for number, (square, (index, picture)) in enumerate(zip(read_video(face), backgrounds, strict=False)):
            corner = record.corners[min(round(index / head.fps * record.fps), len(record.corners) - 1)]
            yield paste(picture, square, corner, record.side, feather)[: scene.height // 2 * 2, : scene.width // 2 * 2]
            if progress is not None:
                progress(number + 1, max(total, number + 1))

    return write_video(out, composite(), face if head.audio else None, head.fps, options)


def _check_match(face: Path, head: VideoInfo, into: Path, scene: VideoInfo, record: CropRecord) -> None:
    """Raises InputError if face, crop record and video do not belong together."""
    if head.width != head.height:
        raise InputError(f"{face} has {head.width}x{head.height} pixels, but crops are square: give the result of `geneface infer`.")
    if head.alpha:
        raise InputError(f"{face} has an alpha channel, through which the original face would show: render it with --bg original.")
    if (scene.width, scene.height) != (record.width, record.height):
        raise InputError(
            f"{into} has {scene.width}x{scene.height} pixels, but the crop was cut out of {record.width}x{record.height}: give the video "
            "that was cropped, or its own crop record with --crop."
        )
    if record.start >= scene.seconds:
        raise InputError(
            f"{into} ends at {scene.seconds:.2f} s, but the crop begins at {record.start:.2f} s: give the video that was cropped."
        )


# -------- Command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    add = parser.add_argument_group("input and output").add_argument
    add("--face", required=True, metavar="MP4", help="the result of `geneface infer`; its sound and length are kept")
    add("--into", required=True, metavar="VIDEO", help="the uncropped video")
    add("--out", required=True, metavar="MP4", help="video to write")
    add(
        "--crop",
        metavar="PATH",
        help="position of the square: the subject folder of `geneface prepare` or `fit`, or the .crop.json (or the video next to it) of "
        "`geneface crop`; default: FACE.crop.json",
    )
    add = parser.add_argument_group("picture").add_argument
    add(
        "--fill",
        choices=FILLS,
        default="mirror",
        help="if the face video is longer than the uncropped one: play that back and forth, like the head's poses, or hold its last frame "
        "(default %(default)s)",
    )
    add(
        "--feather",
        type=float,
        default=FEATHER,
        metavar="SHARE",
        help="width of the feathered edge over the square's side [0 .. 0.5]: wider hides a seam, narrower keeps more of the new picture "
        "(default %(default)s)",
    )
    add_encoder_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the tool; prints the video's path last."""
    from tqdm import tqdm

    with tqdm(unit="frame", desc="composing", leave=False, disable=None) as bar:  # None: no bar unless stderr is a terminal

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        options = EncoderOptions(**encoder_values(args))
        compose(args.face, args.into, args.out, crop=args.crop, fill=args.fill, feather=args.feather, options=options, progress=progress)
    print(args.out)
    return 0


if __name__ == "__main__":
    run_program()
