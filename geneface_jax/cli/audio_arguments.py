"""The options `--audio` and `--hubert` of every verb that computes audio features."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from data_tools.errors import InputError

if TYPE_CHECKING:
    from data_tools.audio.features import AudioFeatures


def add_audio_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--audio", default="mel_f0", choices=["mel_f0", "hubert"], help="audio features (default %(default)s)")
    where = "default: $GENEFACE_HUBERT, or ~/.cache/geneface_jax/hubert"
    parser.add_argument("--hubert", metavar="DIR", help=f"folder of facebook/hubert-large-ls960-ft, for --audio hubert ({where})")


def chosen_audio(args: argparse.Namespace) -> AudioFeatures:
    """The audio features that the options name.

    Raises:
      InputError: `--hubert` without `--audio hubert`, or HuBERT's weights are missing or damaged.
    """
    if args.hubert and args.audio != "hubert":
        raise InputError(f"--hubert is given with --audio {args.audio}: write --audio hubert, or leave --hubert out.")
    from geneface_jax.inference.audio_features import audio_features

    return audio_features(args.audio, args.hubert)
