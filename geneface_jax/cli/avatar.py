"""Makes data of the avatar with exact ground truth: a video of one speaker, a corpus of many, or the recordings themselves."""

from __future__ import annotations

import argparse

from data_tools.avatar import __main__ as tool
from data_tools.command_line import DEFAULT_FEATURES
from geneface_jax.cli.prepare import chosen_features


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's sub-commands: those of `data_tools.avatar`, whose corpus has mel_f0 alone."""
    tool.add_arguments(parser, DEFAULT_FEATURES)


def run(args: argparse.Namespace) -> int:
    """Runs one sub-command; prints what was made last."""
    return tool.run(args, chosen_features(args)) if args.command == "corpus" else tool.run(args)
