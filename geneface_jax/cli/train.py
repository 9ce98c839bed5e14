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
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the work folder last."""
    from geneface_jax.io import configs
    from geneface_jax.training.loop import train

    print(train(configs.load(args.config, args.overrides), args.workdir))
    return 0
