"""From a talking video to a trained person: prepare, postnet, head, torso, model card. Run the same command again to go on."""

from __future__ import annotations

import argparse
from pathlib import Path

from geneface_jax.cli.audio_arguments import add_audio_arguments, chosen_audio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("video", metavar="VIDEO", help="a video of one talking person, 3 s or more, better a minute")
    parser.add_argument("--out", required=True, metavar="DIR", help="subject folder to make")
    parser.add_argument("--consent", metavar='"WHO, WHEN"', help="who agreed to this use, and when; kept in the dataset and the model card")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="height and width of the pictures (default %(default)s)")
    parser.add_argument("--trim", metavar="A-B", help="use only the seconds from A to B")
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
        size=args.size,
        trim=args.trim,
        consent=args.consent,
        audio=chosen_audio(args),
        variant=args.variant,
        corpus=args.corpus,
        corpus_models=args.corpus_models,
        steps=steps,
        start_from=args.start_from,
        restore_mode=args.restore,
    )
    print(subject)
    return 0
