"""Settings of a dataset, their fingerprints for the resume rules, and the validation of the options."""

import dataclasses
import importlib.metadata
import math
from pathlib import Path

from data_tools.audio.sound import MEL_F0, AudioFeatures
from data_tools.command_line import FACE_MODELS
from data_tools.errors import InputError
from data_tools.face.bfm import model_key
from data_tools.io import file_sha256, settings_fingerprint
from data_tools.masks import SegmenterChoice

RECIPE_VERSION = 4
"""Incremented when a step changes so that existing datasets are outdated."""

MAX_AUDIO_OFFSET = 5.0
"""Seconds; a larger offset means that the audio is from another recording."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a dataset is made.

    Attributes:
      video: the file; sha256: of its bytes.
      span: seconds [a, b) used; None means all.
      size: pixels of the square pictures.
      face_model: of `FACE_MODELS`; bfm_folder: where the Basel model's files are.
      audio: the audio features.
      audio_offset: seconds by which the audio is delayed.
      segmenter: the network that makes the masks.
    """

    video: Path
    sha256: str
    span: tuple[float, float] | None
    size: int
    face_model: str = "mediapipe"
    bfm_folder: Path | None = None
    audio: AudioFeatures = MEL_F0
    audio_offset: float = 0.0
    segmenter: SegmenterChoice = SegmenterChoice()

    @property
    def scan_key(self) -> str:
        """Fingerprint of everything the crop depends on."""
        return settings_fingerprint(RECIPE_VERSION, self.sha256, self.span)

    @property
    def picture_key(self) -> str:
        """Fingerprint of everything pictures and landmarks depend on."""
        model = self.segmenter.model
        return settings_fingerprint(RECIPE_VERSION, self.sha256, self.span, self.size, file_sha256(model) if model else None)

    @property
    def recipe(self) -> str:
        """Fingerprint of everything the dataset depends on."""
        face_model = model_key(self.bfm_folder) if self.face_model == "bfm" else self.face_model
        return settings_fingerprint(self.picture_key, face_model, self.audio.recipe, self.audio_offset)


def tool_versions() -> dict[str, str]:
    """Versions of the packages whose output a dataset or corpus holds."""
    return {package: importlib.metadata.version(package) for package in ("mediapipe", "numpy", "librosa", "scipy")}


def check_size(size: int) -> None:
    """Raises InputError when pictures of size x size can't be made."""
    if not (64 <= size <= 2048 and size % 2 == 0):
        raise InputError(f"--size {size} is not possible: choose an even number from 64 to 2048, for example 256 or 512.")


def check_options(size: int, face_model: str, bfm_folder: Path | None, audio_offset: float, workers: int) -> None:
    """Validates options before the video is opened.

    Raises:
      InputError: an option has an invalid value; the sentence names the option and the valid values.
    """
    if face_model not in FACE_MODELS:
        raise InputError(f"--face-model {face_model} does not exist: use {' or '.join(FACE_MODELS)}.")
    if face_model == "bfm" and bfm_folder is None:
        raise InputError("--face-model bfm needs the Basel model's files: give their folder with --bfm-folder, or use mediapipe.")
    check_size(size)
    if not (math.isfinite(audio_offset) and abs(audio_offset) <= MAX_AUDIO_OFFSET):
        raise InputError(
            f"--audio-offset {audio_offset:g} is not possible: give seconds from -{MAX_AUDIO_OFFSET:g} to {MAX_AUDIO_OFFSET:g}."
        )
    if workers < 1:
        raise InputError(f"--workers {workers} is not possible: give 1 or more.")
