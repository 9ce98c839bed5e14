"""Turns many videos of many speakers (an LRS3 tree or any folder) into a corpus for SyncNet and the audio2motion VAE."""

import argparse
from pathlib import Path

from geneface_jax.cli.prepare import add_audio_arguments, chosen_audio

EPILOG = (
    "The same command resumes an interrupted run, and applies changed filters to existing measurements. Any key of configs/corpus.py can "
    "be set with --config.key=value: --config.filters.min_face_pixels=60. docs/corpus.md documents the filters."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.epilog = EPILOG
    parser.add_argument("videos", metavar="DIR", help="folder of videos: one folder per speaker, or LRS3's pretrain/trainval/test")
    parser.add_argument("--out", required=True, metavar="DIR", help="corpus folder")
    parser.add_argument("--config", default="corpus", metavar="FILE", help="config file, or its name in configs/ (default %(default)s)")
    add_audio_arguments(parser)
    parser.add_argument("--syncnet", metavar="DIR", help="work folder of a trained SyncNet, to drop clips that it scores as out of sync")
    parser.add_argument("--limit", type=int, metavar="N", help="use only N videos, spread over the speakers")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="number of processes (default %(default)s)")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints dropped clips by reason, and the corpus folder last."""
    from data_tools.corpus.build import Scorer, build_corpus
    from data_tools.corpus.selection import CorpusSettings, histogram
    from data_tools.errors import InputError
    from geneface_jax.io import configs

    for name, value in (("--limit", args.limit), ("--workers", args.workers)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: give 1 or more.")
    settings = CorpusSettings.from_mapping(configs.load(args.config, args.overrides))
    audio, scorer = chosen_audio(args), None
    if args.syncnet:
        from geneface_jax.data.subject import FeatureTypes
        from geneface_jax.training.speech_losses import sync_scorer

        scorer = Scorer(*sync_scorer(args.syncnet, FeatureTypes(audio_model=audio.name)))
    report = build_corpus(args.videos, args.out, settings, audio=audio, scorer=scorer, workers=args.workers, limit=args.limit)
    print(histogram(report))
    print(Path(args.out))
    return 0
