"""Trains a person from a talking video: prepare, postnet, head, torso, model card. Run the same command again to resume."""

import argparse
from pathlib import Path

from data_tools.command_line import OPTION_NAMES, add_prepare_options
from geneface_jax.cli.prepare import add_audio_arguments, chosen_audio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("video", metavar="VIDEO", help="video of one talking person, at least 3 s, preferably a minute")
    parser.add_argument("--out", required=True, metavar="DIR", help="subject folder to write")
    add_prepare_options(parser, size=256)
    add_audio_arguments(parser)
    parser.add_argument("--variant", default="demo", choices=["demo", "reference"], help="size of the networks (default %(default)s)")
    parser.add_argument("--corpus", metavar="DIR", help="corpus for the postnet (default: checkpoints/avatar/corpus)")
    parser.add_argument("--corpus-models", metavar="DIR", help="folder with syncnet/ and audio2motion/ (default: checkpoints/avatar)")
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="SUBJECT",
        help="initialize the networks from another person instead of at random, for faster convergence",
    )
    parser.add_argument(
        "--restore",
        choices=["strict", "lenient"],
        default="strict",
        help="tensors of --from, or of an earlier run, with another shape: refuse them, or initialize them at random (default %(default)s)",
    )
    for stage in ("postnet", "head", "torso"):
        parser.add_argument(f"--{stage}-steps", type=int, metavar="N", help=f"updates of the {stage} (default: its config's)")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the subject folder last."""
    from geneface_jax.fit import fit

    steps = {stage: count for stage in ("postnet", "head", "torso") if (count := getattr(args, f"{stage}_steps")) is not None}
    subject = fit(
        args.video,
        Path(args.out),
        audio=chosen_audio(args),
        variant=args.variant,
        corpus=args.corpus,
        corpus_models=args.corpus_models,
        steps=steps,
        start_from=args.start_from,
        restore_mode=args.restore,
        **{name: getattr(args, name) for name in OPTION_NAMES},
    )
    print(subject)
    return 0
