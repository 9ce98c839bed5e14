"""Turns a talking video into a subject dataset: face crop, 25 fps, audio features, landmarks, head pose, masks, background, report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.command_line import OPTION_NAMES, add_prepare_options, jax_device
from data_tools.errors import InputError

if TYPE_CHECKING:
    from data_tools.audio.sound import AudioFeatures


def add_audio_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --audio and --hubert, the options of every verb that computes audio features."""
    parser.add_argument("--audio", default="mel_f0", choices=["mel_f0", "hubert"], help="audio features (default %(default)s)")
    where = "default: $GENEFACE_HUBERT, or ~/.cache/geneface_jax/hubert"
    parser.add_argument("--hubert", metavar="DIR", help=f"folder of facebook/hubert-large-ls960-ft, for --audio hubert ({where})")


def chosen_audio(args: argparse.Namespace) -> AudioFeatures:
    """The audio features selected by --audio and --hubert.

    Raises:
      InputError: --hubert without `--audio hubert`, or HuBERT's weights are missing or damaged.
    """
    if args.hubert and args.audio != "hubert":
        raise InputError(f"--hubert is given with --audio {args.audio}: write --audio hubert, or remove --hubert.")
    from geneface_jax.inference.audio_features import audio_features

    return audio_features(args.audio, args.hubert)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("video", metavar="VIDEO", help="video of one talking person, at least 3 s, preferably a minute")
    parser.add_argument("--out", required=True, metavar="DIR", help="subject folder; the dataset is written to DIR/dataset")
    add_prepare_options(parser)
    add_audio_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the dataset folder last."""
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
