"""Which dataset a field was trained for. A head is blurred or shifted under other intrinsics, and nothing else would say so."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.subject import Subject

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
