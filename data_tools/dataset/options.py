"""The options of `geneface prepare`, `geneface fit` and `python -m data_tools.prepare`; light, so that --help answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path

FACE_MODELS = ("mediapipe", "bfm")


def add_options(parser: argparse.ArgumentParser, size: int = 512) -> None:
    """Adds the options; their names are the arguments of `data_tools.prepare.prepare`. `size` is the default of --size."""
    add = parser.add_argument
    add("--size", type=int, default=size, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    add("--trim", metavar="A-B", help="use only the seconds from A to B")
    add("--face-model", default="mediapipe", choices=FACE_MODELS, help="what makes landmarks of the face (default %(default)s)")
    add("--bfm-folder", type=Path, metavar="DIR", help="the Basel face model's files, for --face-model bfm")
    add("--audio-offset", type=float, default=0.0, metavar="SECONDS", help="delay the sound by so much (the report estimates it)")
    add("--segmenter-model", type=Path, metavar="FILE", help="MediaPipe's selfie_multiclass_256x256.tflite, for finer masks")
    add("--name", help="name of the person (default: the folder's)")
    add("--consent", metavar='"WHO, WHEN"', help="who agreed to this use, and when; kept in the dataset and the model card")
    add("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s); the result is the same with any number")
    add("--device", choices=("cpu", "gpu"), help="where JAX works, if it is used (default: its own choice)")


OPTION_NAMES = (
    "size", "trim", "face_model", "bfm_folder", "audio_offset", "segmenter_model", "name", "consent", "workers", "device",
)  # fmt: skip
