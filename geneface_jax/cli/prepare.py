"""Turns a talking video into a subject dataset: face crop, 25 fps, audio features, landmarks, head pose, masks, background, report."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools.command_line import OPTION_NAMES, add_prepare_options
from geneface_jax.cli.audio_arguments import add_audio_arguments, chosen_audio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("video", metavar="VIDEO", help="a video of one talking person, 3 s or more, better a minute")
    parser.add_argument("--out", required=True, metavar="DIR", help="subject folder; the dataset goes to DIR/dataset")
    add_prepare_options(parser)
    add_audio_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the dataset's folder last."""
    from data_tools.command_line import jax_device
    from data_tools.prepare import prepare

    options = {name: value for name, value in vars(args).items() if name in OPTION_NAMES}
    with jax_device(args.device):
        dataset = prepare(
            args.video,
            Path(args.out) / "dataset",
            **{**options, "name": args.name or Path(args.out).resolve().name},
            audio=chosen_audio(args),
        )
    print(dataset)
    return 0
