"""Turns a talking video into a subject dataset: face crop, 25 fps, audio features, landmarks, head pose, masks, background, report.

The same command resumes an interrupted run. docs/file-formats.md lists the dataset's files.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from data_tools.command_line import PREPARE_OUT, add_prepare_arguments, check_features, jax_device

if TYPE_CHECKING:
    from data_tools.audio.sound import AudioFeatures


def chosen_features(args: argparse.Namespace) -> AudioFeatures:
    """The audio features selected by --features and --hubert.

    Raises:
      InputError: --hubert without `--features hubert`, or HuBERT's weights are missing or damaged.
    """
    check_features(args)
    from geneface_jax.inference.audio_features import audio_features

    return audio_features(args.features, args.hubert)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options: those of `data_tools.prepare`, which lacks HuBERT."""
    add_prepare_arguments(parser, PREPARE_OUT)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the dataset folder last."""
    from data_tools import prepare
    from geneface_jax.inference.opening import opening_predictor

    with jax_device(args.device):
        return prepare.run(args, chosen_features(args), opening_predictor(needed=args.fix_offset == "auto"))
