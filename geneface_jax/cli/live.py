"""Speaks live without a browser: sound from a microphone, a file or a pipe becomes a video, a stream or a virtual camera, at once."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add = parser.add_argument_group("input and output").add_argument
    add("--person", required=True, metavar="DIR", help="subject folder made by `geneface fit`, or the name of a shipped person: demo")
    add(
        "--input",
        default="mic",
        metavar="SOUND",
        help="mic, an audio or video file, or - for 16-bit mono samples at 16 kHz on the standard input (default %(default)s)",
    )
    add(
        "--output",
        required=True,
        metavar="VIDEO",
        help="an mp4 file, - for fragmented mp4 on the standard output, or a virtual camera such as /dev/video10. A file is written as "
        "fast as it can be made when --input is a file, everything else at the speed of the clock",
    )
    add("--size", type=int, metavar="N", help="width and height in pixels: as trained (default), or half of it")
    add("--mouth-amp", type=float, default=0.4, metavar="X", help="amplitude of the mouth motion, 0 to 1 (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the verb until the sound ends, or Ctrl-C."""
    from geneface_jax.inference.controls import Controls
    from geneface_jax.live.perform import run_live

    run_live(args.person, args.input, args.output, Controls(mouth_amp=args.mouth_amp, size=args.size).validate())
    if args.output != "-" and not args.output.startswith("/dev/"):
        print(args.output)
    return 0
