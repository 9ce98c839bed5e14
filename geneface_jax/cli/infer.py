"""Makes a video of a trained person saying what is heard in a recording."""

from __future__ import annotations

import argparse

from geneface_jax.inference import controls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("--subject", required=True, metavar="DIR", help="subject folder made by `geneface fit`")
    parser.add_argument("--audio", required=True, metavar="FILE", help="speech: any audio or video file")
    parser.add_argument("--out", required=True, metavar="MP4", help="video to write")
    controls.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the video's path last."""
    chosen = controls.from_args(args)
    from tqdm import tqdm

    from geneface_jax.inference.pipeline import infer

    with tqdm(unit="frame", desc="rendering", leave=False, disable=None) as bar:  # nothing where no terminal is

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = infer(args.subject, args.audio, args.out, chosen, progress=progress)
    print(f"{result.frames} frames, {result.seconds:.2f} s, drawn by {result.networks}")
    print(result.path)
    return 0
