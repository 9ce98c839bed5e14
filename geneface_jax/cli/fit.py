"""From a talking video to a trained person: prepare, postnet, head, torso, model card. Run the same command again to go on."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools.command_line import OPTION_NAMES, add_prepare_options
from geneface_jax.cli.prepare import add_audio_arguments, chosen_audio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("video", metavar="VIDEO", help="a video of one talking person, 3 s or more, better a minute")
    parser.add_argument("--out", required=True, metavar="DIR", help="subject folder to make")
    add_prepare_options(parser, size=256)
    add_audio_arguments(parser)
    parser.add_argument("--variant", default="demo", choices=["demo", "reference"], help="size of the networks (default %(default)s)")
    parser.add_argument("--corpus", metavar="DIR", help="corpus for the postnet (default: the shipped one)")
    parser.add_argument("--corpus-models", metavar="DIR", help="folder with syncnet/ and audio2motion/ (default: the shipped ones)")
    parser.add_argument(
        "--from", dest="start_from", metavar="SUBJECT", help="begin with the networks of another person instead of at random: sooner good"
    )
    parser.add_argument(
        "--restore",
        choices=["strict", "lenient"],
        default="strict",
        help="networks of --from, or of an earlier run, with other sizes: refuse, or begin those tensors anew (default %(default)s)",
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
