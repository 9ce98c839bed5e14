"""Turns many videos of many speakers (an LRS3 tree or any folder) into a corpus for SyncNet and the audio2motion VAE."""

import argparse
from pathlib import Path

from data_tools.command_line import add_features_arguments
from geneface_jax.cli.prepare import chosen_features

EPILOG = (
    "The same command resumes an interrupted run, and applies changed filters to existing measurements. Any key of configs/corpus.py can "
    "be set with --config.key=value: --config.filters.min_face_pixels=60. docs/corpus.md documents the filters."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.epilog = EPILOG
    add = parser.add_argument_group("input and output").add_argument
    add("videos", metavar="DIR", help="folder of videos: one folder per speaker, or LRS3's pretrain/trainval/test")
    add("--out", required=True, metavar="DIR", help="corpus folder")
    add = parser.add_argument_group("clips that are kept").add_argument
    add("--config", default="corpus", metavar="FILE", help="config file, or its name in configs/ (default %(default)s)")
    add("--syncnet", metavar="DIR", help="work folder of a trained SyncNet, to drop clips that it scores as out of sync")
    add("--limit", type=int, metavar="N", help="use only N videos, spread over the speakers")
    add_features_arguments(parser)
    add = parser.add_argument_group("machine").add_argument
    add("--workers", type=int, default=1, metavar="N", help="number of processes (default %(default)s)")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints dropped clips by reason, and the corpus folder last."""
    from data_tools.corpus.build import Scorer, build_corpus
    from data_tools.corpus.selection import CorpusSettings, histogram
    from data_tools.errors import InputError
    from geneface_jax.inference.opening import opening_predictor
    from geneface_jax.io import configs

    for name, value in (("--limit", args.limit), ("--workers", args.workers)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: give 1 or more.")
    settings = CorpusSettings.from_mapping(configs.load(args.config, args.overrides))
    features, scorer = chosen_features(args), None
    if args.syncnet:
        from geneface_jax.data.subject import FeatureTypes
        from geneface_jax.training.speech_losses import sync_scorer

        scorer = Scorer(*sync_scorer(args.syncnet, FeatureTypes(audio_model=features.name)))
    report = build_corpus(
        args.videos,
        args.out,
        settings,
        features=features,
        predictor=opening_predictor(needed=False),
        scorer=scorer,
        workers=args.workers,
        limit=args.limit,
    )
    print(histogram(report))
    print(Path(args.out))
    return 0
