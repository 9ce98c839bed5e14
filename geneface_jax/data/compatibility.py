"""Compatibility of data and networks: landmark and audio feature types, and the camera a field was trained with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.subject import Subject

# ----------------------------------------------------------------------------------------------------
# Which landmarks and which audio features a network or a dataset speaks. Numbers of different kinds must never meet.
#
# Datasets and corpora carry their kind in meta.json; a stage copies it to `config.data` of its own checkpoints, where the next stage and
# inference find it.


class FeatureTypes(NamedTuple):
    """What made the landmarks ("mediapipe", "bfm") and the audio features ("mel_f0", "hubert").

    The defaults are what everything was made with before the kind was written down.
    """

    face_model: str = "mediapipe"
    audio_model: str = "mel_f0"

    def __str__(self) -> str:
        return f"{self.face_model} landmarks and {self.audio_model} audio features"


def feature_types_of(record: Mapping[str, Any] | ConfigDict) -> FeatureTypes:
    """The kind in a dataset's or corpus' meta.json, or in `config.data` of a checkpoint."""
    return FeatureTypes(**{field: record[field] for field in FeatureTypes._fields if field in record})


def record_feature_types(config: ConfigDict, kind: FeatureTypes) -> None:
    """Writes the kind to `config.data`, and so into every checkpoint of the stage."""
    with config.unlocked():
        config.data.update(kind._asdict())


def require_same_features(name: str, kind: FeatureTypes, other_name: str, other: FeatureTypes) -> None:
    """Checks that two things may be used together.

    Args:
      name, other_name: what they are and where, for people ("the corpus CORPUS").

    Raises:
      InputError: they differ; both kinds are named.
    """
    if kind != other:
        raise InputError(f"{name} has {kind}, but {other_name} has {other}: use two that were made with the same face model and features.")


# ----------------------------------------------------------------------------------------------------
# Which dataset a field was trained for. A head is blurred or shifted under other intrinsics, and nothing else would say so.

TOLERANCE = 1e-3
"""Relative difference of intrinsics that no pixel shows."""


def record_camera(config: ConfigDict, size: int, intrinsics: Mapping[str, float]) -> None:
    """Writes a dataset's size and its fx, fy, cx, cy to `config.data.camera`, and so into every checkpoint of the stage."""
    with config.unlocked():
        config.data.camera = ConfigDict({"size": size, **{name: float(value) for name, value in intrinsics.items()}})


def require_same_camera(name: str, config: ConfigDict, subject: Subject) -> None:
    """Checks that a checkpoint was trained with a dataset's camera; one that recorded none is not checked.

    Args:
      name: the checkpoint, for people ("the head in DIR").

    Raises:
      InputError: another size or other intrinsics; both are named.
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
            f"{name} was trained with {there} but {subject.folder} has {here}; bring back the dataset it was trained on, or train it on "
            "this one"
        )


def require_same_frames(name: str, config: ConfigDict, subject: Subject) -> None:
    """Checks that a head has an appearance code for every training frame: ours has as many, an original's has
    13,000 or whatever its owner chose.

    Raises:
      InputError: it has not; both numbers are named.
    """
    codes = config.model.codes
    if codes < subject.n_train if "source" in config else codes != subject.n_train:
        raise InputError(
            f"{name} was trained on {codes} frames but {subject.folder} has {subject.n_train} training frames; train the head again on "
            "this dataset, or bring back the dataset it was trained on"
        )
