"""Which landmarks and which audio features a network or a dataset speaks. Numbers of different kinds must never meet.

Datasets and corpora carry their kind in meta.json; a stage copies it to `config.data` of its own checkpoints, where the next stage and
inference find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from data_tools.errors import InputError


class DataKind(NamedTuple):
    """What made the landmarks ("mediapipe", "bfm") and the audio features ("mel_f0", "hubert").

    The defaults are what everything was made with before the kind was written down.
    """

    face_model: str = "mediapipe"
    audio_model: str = "mel_f0"

    def __str__(self) -> str:
        return f"{self.face_model} landmarks and {self.audio_model} audio features"


def kind_of(record: Mapping[str, Any] | ConfigDict) -> DataKind:
    """The kind in a dataset's or corpus' meta.json, or in `config.data` of a checkpoint."""
    return DataKind(**{field: record[field] for field in DataKind._fields if field in record})


def record_kind(config: ConfigDict, kind: DataKind) -> None:
    """Writes the kind to `config.data`, and so into every checkpoint of the stage."""
    with config.unlocked():
        config.data.update(kind._asdict())


def require_same(name: str, kind: DataKind, other_name: str, other: DataKind) -> None:
    """Checks that two things may be used together.

    Args:
      name, other_name: what they are and where, for people ("the corpus CORPUS").

    Raises:
      InputError: they differ; both kinds are named.
    """
    if kind != other:
        raise InputError(f"{name} has {kind}, but {other_name} has {other}: use two that were made with the same face model and features.")
