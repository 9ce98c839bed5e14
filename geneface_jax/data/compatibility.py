"""Compatibility of data and networks: landmark and audio feature types, and the camera and frames of a field's training set.

Datasets and corpora store their feature types in meta.json; a stage copies them to `config.data` of its checkpoints, where the next stage
and inference read them.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.subject import Subject


class FeatureTypes(NamedTuple):
    """The face model of the landmarks ("mediapipe", "bfm") and the audio features ("mel_f0", "hubert").

    The defaults hold for files from versions that did not record the types.
    """

    face_model: str = "mediapipe"
    audio_model: str = "mel_f0"

    def __str__(self) -> str:
        return f"{self.face_model} landmarks and {self.audio_model} audio features"


def feature_types_of(record: Mapping[str, Any] | ConfigDict) -> FeatureTypes:
    """The feature types in meta.json of a dataset or corpus, or in `config.data` of a checkpoint."""
    return FeatureTypes(**{field: record[field] for field in FeatureTypes._fields if field in record})


def record_feature_types(config: ConfigDict, kind: FeatureTypes) -> None:
    """Writes the feature types to `config.data`, and so into every checkpoint of the stage."""
    with config.unlocked():
        config.data.update(kind._asdict())


def require_same_features(name: str, kind: FeatureTypes, other_name: str, other: FeatureTypes) -> None:
    """Checks that two datasets or networks have the same feature types.

    Args:
      name, other_name: what and where they are, for the error sentence ("the corpus CORPUS").

    Raises:
      InputError: they differ; names both types.
    """
    if kind != other:
        raise InputError(f"{name} has {kind}, but {other_name} has {other}: use two that were made with the same face model and features.")


# -------- Camera and frames of a field: with other intrinsics its pictures would be blurred or shifted without any error

TOLERANCE = 1e-3
"""Relative difference of intrinsics that is invisible in the pixels."""


def record_camera(config: ConfigDict, size: int, intrinsics: Mapping[str, float]) -> None:
    """Writes a dataset's size and its fx, fy, cx, cy to `config.data.camera`, and so into every checkpoint of the stage."""
    with config.unlocked():
        config.data.camera = ConfigDict({"size": size, **{name: float(value) for name, value in intrinsics.items()}})


def require_same_camera(name: str, config: ConfigDict, subject: Subject) -> None:
    """Checks that a checkpoint was trained with the dataset's camera; older checkpoints recorded none and pass.

    Args:
      name: the checkpoint, for the error sentence ("the head in DIR").

    Raises:
      InputError: the size or the intrinsics differ; names both.
    """
    camera = config.get("data", ConfigDict()).get("camera")
    if camera is None:
        return
    ours = {"size": subject.size, **subject.intrinsics._asdict()}
    different = [key for key, value in ours.items() if not math.isclose(value, camera[key], rel_tol=TOLERANCE)]
    if different:
        there = ", ".join(f"{key} {camera[key]:g}" for key in different)
        here = ", ".join(f"{key} {ours[key]:g}" for key in different)
        raise InputError(
            f"{name} was trained with {there} but {subject.folder} has {here}: restore the dataset it was trained on, or train it on "
            "this one."
        )


def require_same_frames(name: str, config: ConfigDict, subject: Subject) -> None:
    """Checks that a head has an appearance code for every training frame: exactly as many, or, if it was converted from an original
    (config key `source`), at least as many.

    Raises:
      InputError: it has not; names both numbers.
    """
    codes = config.model.codes
    if codes < subject.n_train if "source" in config else codes != subject.n_train:
        raise InputError(
            f"{name} was trained on {codes} frames but {subject.folder} has {subject.n_train} training frames: train the head again on "
            "this dataset, or restore the dataset it was trained on."
        )
