"""Trains a person from a talking video: prepare, postnet, head, torso, model card. Run the same command again to resume."""

import argparse

from data_tools.command_line import OPTION_NAMES, add_prepare_arguments
from geneface_jax.cli.prepare import chosen_features


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_prepare_arguments(parser, "subject folder to write", size=256, features=None)
    add = parser.add_argument_group("training").add_argument
    add("--variant", default="demo", choices=["demo", "reference"], help="size of the networks (default %(default)s)")
    add("--corpus", metavar="DIR", help="corpus for the postnet (default: the shipped checkpoints/avatar/corpus)")
    add("--extra-corpus", metavar="DIR", help="a second corpus (default: with the shipped corpus the real voices of checkpoints/grid)")
    add("--corpus-models", metavar="DIR", help="folder with syncnet/ and audio2motion/ (default: the shipped checkpoints/avatar)")
    add("--no-live", dest="live", action="store_false", help="leave out the network of live speech")
    for stage in ("postnet", "head", "torso"):
        add(f"--{stage}-steps", type=int, metavar="N", help=f"updates of the {stage} (default: its config's)")
    add = parser.add_argument_group("warm start").add_argument
    add(
        "--from",
        dest="start_from",
        metavar="SUBJECT",
        help="initialize the networks from another person (demo: the shipped one) instead of at random, for faster convergence",
    )
    add(
        "--restore",
        choices=["strict", "lenient"],
        default="strict",
        help="tensors of --from, or of an earlier run, with another shape: refuse them, or initialize them at random (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the subject folder last."""
    from geneface_jax.pipeline import fit

    steps = {stage: count for stage in ("postnet", "head", "torso") if (count := getattr(args, f"{stage}_steps")) is not None}
    subject = fit(
        args.video,
        args.out,
        features=chosen_features(args) if args.features or args.hubert else None,
        variant=args.variant,
        corpus=args.corpus,
        corpus_models=args.corpus_models,
        extra_corpus=args.extra_corpus,
        steps=steps,
        start_from=args.start_from,
        restore_mode=args.restore,
        live=args.live,
        **{name: getattr(args, name) for name in OPTION_NAMES},
    )
    print(subject)
    return 0
