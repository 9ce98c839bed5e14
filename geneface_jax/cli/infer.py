"""Renders a video of a trained person speaking a recording, or one video for every recording in a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.errors import InputError
from geneface_jax.inference import controls

if TYPE_CHECKING:
    from geneface_jax.inference.person import InferenceResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add = parser.add_argument_group("input and output").add_argument
    add("--subject", required=True, metavar="DIR", help="subject folder made by `geneface fit`, or the name of a shipped person: demo")
    add("--audio", required=True, metavar="PATH", help="speech: an audio or video file, or a folder of them")
    add("--track", type=int, metavar="N", help="sound track of a file that has several, from 1 (default: the first that is not silent)")
    add("--out", required=True, metavar="FILE", help="video to write: .mp4, with --bg transparent .webm or a folder for PNGs")
    add("--live", action="store_true", help="as a live session shows it (docs/live.md): by the person's network of live speech")
    add("--debug", metavar="DIR", help="folder for intermediate results: features, motion, cameras, landmarks")
    controls.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the verb."""
    chosen = controls.from_args(args)
    from geneface_jax.inference.person import infer, infer_folder

    if args.live:
        if args.debug or Path(args.audio).is_dir():
            reason = "has no intermediate results for --debug" if args.debug else f"is for one recording, and {args.audio} is a folder"
            raise InputError(f"--live {reason}: leave {'--debug' if args.debug else '--live'} out.")
        from geneface_jax.live.perform import infer_live

        return _tell(infer_live(args.subject, args.audio, args.out, chosen, track=args.track, progress=True))
    if Path(args.audio).is_dir():
        if args.debug:
            raise InputError(f"--debug is for one recording and {args.audio} is a folder: give one of its files.")
        if args.track is not None:
            raise InputError(f"--track is for one recording and {args.audio} is a folder: give one of its files.")
        return _report(infer_folder(args.subject, args.audio, args.out, chosen, progress=True))
    return _tell(infer(args.subject, args.audio, args.out, chosen, progress=True, debug=args.debug, track=args.track))


def _tell(result: InferenceResult) -> int:
    """Prints the video's path last."""
    print(f"{result.frames} frames, {result.seconds:.2f} s, rendered by {result.networks}{_speed(result)}")
    print(result.path)
    return 0


def _report(results: Iterator[tuple[Path, InferenceResult | InputError]]) -> int:
    """Prints one line per recording; returns exit code 2 if one of them failed."""
    code = 0
    for path, result in results:
        if isinstance(result, InputError):
            print(f"geneface infer: {result}", file=sys.stderr)
            code = 2
        else:
            speed = _speed(result) and f", rendered{_speed(result)}"
            print(f"{path.name}: {result.frames} frames, {result.seconds:.2f} s{speed} -> {result.path}")
    return code


def _speed(result: InferenceResult) -> str:
    return "" if result.frames_per_second is None else f" at {result.frames_per_second:.1f} frames/s"
