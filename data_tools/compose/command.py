"""Pastes a result of `geneface infer` back into the uncropped video, at the place that the crop noted."""

from __future__ import annotations

import argparse

from data_tools.compose.compose import FEATHER, compose
from data_tools.compose.playback import FILLS
from data_tools.video.encoder import EncoderOptions, add_encoder_arguments, encoder_values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--face", required=True, metavar="MP4", help="the result of `geneface infer`; its sound and length are kept")
    parser.add_argument("--into", required=True, metavar="VIDEO", help="the uncropped video")
    parser.add_argument("--out", required=True, metavar="MP4", help="video to write")
    parser.add_argument(
        "--crop",
        metavar="PATH",
        help="where the square was: the subject folder of `geneface prepare` or `fit`, or the .crop.json (or the video beside it) of "
        "`python -m data_tools.crop`; default: FACE.crop.json",
    )
    parser.add_argument(
        "--fill",
        choices=FILLS,
        default="mirror",
        help="where the face lasts longer than the video: play it back and forth, as the head's pose is, or hold its last frame "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--feather",
        type=float,
        default=FEATHER,
        metavar="SHARE",
        help="width of the faded edge over the square's side [0 .. 0.5]: wider hides a seam, narrower keeps more of the new picture "
        "(default %(default)s)",
    )
    add_encoder_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command; prints the video's path last."""
    from tqdm import tqdm

    with tqdm(unit="frame", desc="composing", leave=False, disable=None) as bar:  # nothing where no terminal is

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        options = EncoderOptions(**encoder_values(args))
        compose(args.face, args.into, args.out, crop=args.crop, fill=args.fill, feather=args.feather, options=options, progress=progress)
    print(args.out)
    return 0
