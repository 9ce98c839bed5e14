"""A person's data of the originals -> our subject dataset (docs/file-formats.md), whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_tools.io import write_folder, write_json
from data_tools.landmarks68 import eye_openness, lip_box
from data_tools.landmarks68 import mean_face as canonical_mean_face
from geneface_jax.convert import processed_folder, trainval
from geneface_jax.convert.face_geometry import expression_basis, fit_mean_face
from geneface_jax.convert.imported import require_new
from geneface_jax.convert.processed_folder import ProcessedFolder
from geneface_jax.convert.trainval import Trainval
from geneface_jax.data.motion import STD_FLOOR
from geneface_jax.data.subject import FORMAT, FORMAT_VERSION
from geneface_jax.rendering.cameras import project

MAX_RESIDUAL = 0.05
"""Share of the landmarks' movement that coefficients of one identity may leave unexplained."""


@dataclasses.dataclass(frozen=True)
class ImportedDataset:
    """A dataset in our terms, not yet written.

    Attributes:
      data: what the file says.
      arrays: of `arrays.npz`.
      pictures: where the pictures are; None makes a light dataset.
      notes: sentences that its owner should read.
    """

    data: Trainval
    arrays: dict[str, np.ndarray]
    pictures: ProcessedFolder | None
    notes: tuple[str, ...]


def import_dataset(path: str | Path, frames: str | Path | None = None) -> ImportedDataset:
    """Reads a `trainval_dataset.npy`.

    Args:
      path: the file.
      frames: the processed folder with the pictures; None looks for it in its place beside the file.

    Raises:
      InputError: see `trainval.read` and `processed_folder.find`.
    """
    data = trainval.read(path)
    pictures = processed_folder.find(data, frames)
    seen = pictures.landmarks_2d() if pictures else None
    notes = []
    prior = canonical_mean_face()
    if seen is None:
        face = prior
        notes.append("no landmarks of the pictures were found: MediaPipe's mean face stands for the person's in blinks and drawings.")
    else:
        face = fit_mean_face(data.motion, seen, data.cameras, data.intrinsics, prior)
    points = project((data.motion / 10.0 + face) / 10.0, data.cameras, np.array(list(data.intrinsics.values())))
    landmarks_2d = (points if seen is None else seen).astype(np.float32)
    arrays = {
        "audio_features": data.audio_features,
        "f0": data.f0,
        "motion": data.motion,
        "motion_mean": data.motion_mean,
        "motion_std": data.motion_std,
        "mean_face": face,
        "landmarks_2d": landmarks_2d,
        "cameras": data.cameras,
        "eye_openness": eye_openness(landmarks_2d) if data.eye_area is None else data.eye_area,
        "face_box": data.face_box,
        "lip_box": lip_box(landmarks_2d, data.size) if data.lip_box is None else data.lip_box,
        "interpolated": np.zeros(data.n_frames, bool),
    }
    if data.expression is not None:
        basis = expression_basis(data.expression, data.motion)
        arrays |= {"expression_basis": basis.basis, "expression_offset": basis.offset}
        if data.n_frames <= data.expression.shape[1] or basis.residual > MAX_RESIDUAL:
            notes.append(
                f"{data.n_frames} frames leave {basis.residual:.0%} of the landmarks' movement unexplained by the face model's "
                f"{data.expression.shape[1]} coefficients: mouths driven by a VAE of coefficients will be off by as much."
            )
    stiff = int((data.motion_std < STD_FLOOR).sum())
    if stiff:
        notes.append(f"{stiff} of 204 landmark coordinates deviate by less than {STD_FLOOR}, which is what they are divided by here.")
    if pictures is None:
        notes.append("no pictures were found beside it: this is a light dataset, enough for inference; --frames names their folder.")
    return ImportedDataset(data, arrays, pictures, tuple(notes))


def write(dataset: ImportedDataset, folder: str | Path) -> list[str]:
    """Writes the dataset folder, whole or not at all. Returns and raises as `fill`, and as `imported.require_new`."""
    notes: list[str] = []
    write_folder(require_new(folder), lambda target: notes.extend(fill(dataset, target)))
    return notes


def fill(dataset: ImportedDataset, target: Path) -> list[str]:
    """Writes the content of a dataset folder into `target`, which exists; returns further notes.

    Raises:
      InputError: pictures are missing, damaged or of another size.
    """
    notes = dataset.pictures.copy(target) if dataset.pictures else []
    with (target / "arrays.npz").open("wb") as file:
        np.savez(file, **dataset.arrays)
    Image.fromarray(dataset.data.background).save(target / "background.png")
    write_json(target / "meta.json", _meta(dataset.data))
    return notes


def _meta(data: Trainval) -> dict[str, Any]:
    with data.path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": data.path.absolute().parent.name,
        "fps": 25,
        "size": data.size,
        "n_frames": data.n_frames,
        "n_train": data.n_train,
        "intrinsics": data.intrinsics,
        "face_model": "bfm",
        "audio_model": "hubert",
        "crop": {"x": 0, "y": 0, "size": data.size, "source_width": data.size, "source_height": data.size},
        "source": {"file": data.path.name, "sha256": sha256, "fps": 25, "changes": [f"imported from a dataset of {data.version}"]},
        "consent": None,
        "tools": {},
    }
