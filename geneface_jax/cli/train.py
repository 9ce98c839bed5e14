"""Trains one stage from a config file. The same command resumes, and finds a finished run done."""

from __future__ import annotations

import argparse

EPILOG = "Any key of the config can be set with --config.key=value: --config.train.steps=1000 --config.data.subject=out/me/dataset."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="config file, or its name in configs/; variant demo or reference"
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="where config, checkpoints and curves go")
    parser.add_argument(
        "--init", metavar="FROM_WORKDIR", help="begin with the parameters of another run; of no effect on a run that is resumed"
    )
    parser.add_argument(
        "--init-codes",
        choices=["keep", "mean"],
        default="keep",
        help="appearance codes of --init: kept, or for another video all the mean code (default %(default)s)",
    )
    parser.add_argument(
        "--restore",
        choices=["strict", "lenient"],
        default="strict",
        help="a tensor of another shape than this config makes: refuse, or begin it anew and say so (default %(default)s)",
    )
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the work folder last."""
    from geneface_jax.io import configs
    from geneface_jax.training.loop import train

    config = configs.load(args.config, args.overrides)
    print(train(config, args.workdir, init=args.init, codes=args.init_codes, restore_mode=args.restore))
    return 0
