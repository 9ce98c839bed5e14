"""Cuts the square with the talking head out of a video.

Its position is written to OUT.crop.json, so that `geneface compose` can paste a result back.
"""

import argparse
import functools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from data_tools.command_line import frames_bar, run_program
from data_tools.dataset.settings import check_size, parse_trim, scan, scan_faces
from data_tools.encoder import EncoderOptions, add_encoder_arguments, check_output, encoder_values
from data_tools.errors import InputError
from data_tools.face.crop import CropRecord, follow_crop, record_path, save_record
from data_tools.face.track import fill
from data_tools.ffmpeg import VideoInfo, probe
from data_tools.io import file_sha256, require_output
from data_tools.masks import NETWORK_SIZE, SelfieSegmenter, refine
from data_tools.picture import corrections
from data_tools.video import FPS, Box, frames, write_video

logger = logging.getLogger(__name__)

FOLLOW_FPS = 10.0
"""Frame rate of face detection with --follow; the path between detections is interpolated."""


def crop(
    video: str | Path,
    out: str | Path,
    *,
    size: int = 512,
    fps: float = FPS,
    trim: str | tuple[float, float] | None = None,
    follow: bool = False,
    alpha: bool = False,
    options: EncoderOptions | None = None,
    progress: bool = False,
) -> CropRecord:
    """Cuts out the talking head: a square inside the picture in which the head has the size that training expects.

    Args:
      video: local file.
      out: an mp4; with alpha a webm, or a folder for PNGs. The crop record is written next to it (`face.crop.record_path`).
      size: height and width of the result, even, 64 to 2048.
      fps: frames per second of the result.
      trim: seconds to use, "A-B" or (A, B).
      follow: whether the square follows the head (smoothly, at a constant size).
      alpha: adds MediaPipe's person mask as an alpha channel.
      options: encoder options.
      progress: whether to draw progress bars.

    Returns:
      The crop record.

    Raises:
      InputError: the video, its faces or a parameter can't be used.
    """
    options, span, out = (options or EncoderOptions()).validate(), parse_trim(trim), Path(out)
    check_size(size)
    if not 1 <= fps <= 120:
        raise InputError(f"--fps {fps:g} is not possible: choose a number from 1 to 120, for example {FPS}.")
    check_output(out, options, alpha, ask_alpha="--alpha")
    require_output(record_path(out), option="OUT")
    info = probe(video)
    if span is not None:
        span = span[0], min(span[1], info.seconds)
        if span[0] >= span[1]:
            raise InputError(f"--trim begins at {span[0]:g} s, but {video} ends at {info.seconds:.2f} s: choose seconds inside it.")
    for note in corrections(video).notes:
        logger.info("%s", note)
    bar = frames_bar(progress)
    corners, side = _corners(Path(video), info, span, fps, follow, bar)
    pictures = _cut(Path(video), info, corners, side, size, span, fps)
    if alpha:
        pictures = _with_person_mask(pictures)
    seconds = info.seconds if span is None else span[1] - span[0]
    pictures = bar(pictures, desc="cutting", total=round(seconds * fps))
    start = 0.0 if span is None else span[0]
    count = write_video(out, pictures, video if info.audio else None, fps, options, alpha=alpha, sound_start=start)
    record = CropRecord(info.width, info.height, side, corners[:count], fps, start, count)
    save_record(record_path(out), record, {"file": Path(video).name, "sha256": file_sha256(video)})
    return record


def _corners(video: Path, info: VideoInfo, span: tuple[float, float] | None, fps: float, follow: bool, bar) -> tuple[np.ndarray, int]:
    """[1, 2] or, with `follow`, [T, 2] left and top of the square, and its side; source pixels."""
    if not follow:
        found = scan(video, info, span, functools.partial(bar, desc="finding the face"))
        return np.array([[found.box.x, found.box.y]], np.float64), found.box.size
    track, _, _ = scan_faces(video, info, span, FOLLOW_FPS, functools.partial(bar, desc="finding the face"))
    faces = fill(track.landmarks) * np.array([info.width, info.height, info.width], np.float32)
    path, side = follow_crop(faces, info.width, info.height, FOLLOW_FPS)
    seconds = info.seconds if span is None else span[1] - span[0]
    # One corner a frame, for a second more than the length in the file's headers, which need not be exact.
    times = np.arange(round((seconds + 1.0) * fps)) / fps
    detection_times = np.arange(len(path)) / FOLLOW_FPS
    return np.stack([np.interp(times, detection_times, path[:, axis]) for axis in (0, 1)], 1), side


def _cut(video: Path, info: VideoInfo, corners: np.ndarray, side: int, size: int, span, fps: float) -> Iterator[np.ndarray]:
    """The square of every frame, uint8 [size, size, 3]."""
    if len(corners) == 1:
        box = Box(int(corners[0, 0]), int(corners[0, 1]), side)
        yield from frames(video, (size, size), crop=box, trim=span, fps=fps)
        return
    kernel = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC
    for frame, (x, y) in zip(frames(video, (info.width, info.height), trim=span, fps=fps), corners, strict=False):
        # Subpixel shifts: rounding to whole pixels would make a slow path stutter.
        shift = np.float64([[1, 0, -x], [0, 1, -y]])
        square = cv2.warpAffine(frame, shift, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        yield cv2.resize(square, (size, size), interpolation=kernel)


def _with_person_mask(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """RGB frames -> RGBA, alpha = the soft mask of the person."""
    with SelfieSegmenter() as segmenter:
        for picture in pictures:
            small = cv2.resize(picture, (NETWORK_SIZE, NETWORK_SIZE), interpolation=cv2.INTER_AREA)
            yield np.dstack([picture, np.round(refine(segmenter(small)[0], picture) * 255).astype(np.uint8)])


# -------- Command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    add = parser.add_argument_group("input and output").add_argument
    add("video", metavar="VIDEO", help="a video of one person")
    add("out", metavar="OUT", help="an mp4; with --alpha a webm, or a folder for PNGs")
    add("--trim", metavar="A-B", help="use only the seconds from A to B")
    add = parser.add_argument_group("picture").add_argument
    add("--follow", action="store_true", help="the square follows the head (default: it is fixed, as training needs it)")
    add(
        "--size",
        type=int,
        default=512,
        metavar="PIXELS",
        help="height and width [64 .. 2048] (default %(default)s): a larger one shows more detail and makes every later step slower",
    )
    add("--fps", type=float, default=FPS, metavar="N", help="frames a second [1 .. 120] (default %(default)s, what datasets have)")
    add("--alpha", action="store_true", help="add the person mask as an alpha channel: VP9 (yuva420p) in a .webm, or PNGs in a folder")
    add_encoder_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the tool; prints the video's path last. Raises as `crop`."""
    values = {name: getattr(args, name) for name in ("size", "fps", "trim", "follow", "alpha")}
    record = crop(args.video, args.out, **values, options=EncoderOptions(**encoder_values(args)), progress=True)
    where = "following the head" if record.moves else f"at ({record.corners[0, 0]:g}, {record.corners[0, 1]:g})"
    print(f"a square of {record.side} pixels {where}, from {record.width}x{record.height}; {record_path(args.out)}", file=sys.stderr)
    print(args.out)
    return 0


if __name__ == "__main__":
    run_program()
