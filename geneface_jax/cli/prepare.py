"""Turns a talking video into a subject dataset: face crop, 25 fps, audio features, landmarks, head pose, masks, background, report."""

from __future__ import annotations

import argparse
from pathlib import Path

from geneface_jax.cli.audio_arguments import add_audio_arguments, chosen_audio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("video", metavar="VIDEO", help="a video of one talking person, 3 s or more, better a minute")
    parser.add_argument("--out", required=True, metavar="DIR", help="subject folder; the dataset goes to DIR/dataset")
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    parser.add_argument("--trim", metavar="A-B", help="use only the seconds from A to B")
    parser.add_argument("--face-model", default="mediapipe", choices=["mediapipe"], help="what finds the landmarks (default %(default)s)")
    add_audio_arguments(parser)
    parser.add_argument("--name", help="name of the person (default: the folder's)")
    parser.add_argument("--consent", metavar='"WHO, WHEN"', help="who agreed to this use, and when; kept in the dataset and the model card")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the dataset's folder last."""
    from data_tools.prepare import prepare

    dataset = prepare(
        args.video,
        Path(args.out) / "dataset",
        size=args.size,
        trim=args.trim,
        face_model=args.face_model,
        audio=chosen_audio(args),
        name=args.name or Path(args.out).resolve().name,
        consent=args.consent,
        workers=args.workers,
    )
    print(dataset)
    return 0
