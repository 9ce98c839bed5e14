"""The Basel face model at MediaPipe's points, from the files that its licence makes every user fetch.

Wanted in one folder: `BFM_model_front.mat` (mean shape, 80 identity and 64 expression directions of 35709 vertices) and
`index_mp468_from_mesh35709.npy` (the vertex of each MediaPipe point; negative where there is none). Both are files of GeneFace++.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from data_tools.dataset.workspace import file_sha256, fingerprint
from data_tools.errors import InputError

MODEL_FILE, INDEX_FILE = "BFM_model_front.mat", "index_mp468_from_mesh35709.npy"

N_POINTS = 468


@dataclasses.dataclass(frozen=True)
class FaceModel:
    """A linear face: points = mean + identity @ id + expression @ exp, in decimetres (x right, y up, z to the camera).

    Attributes:
      mean: [468, 3]; identity: [468, 3, I]; expression: [468, 3, E].
      matched: [468] bool, False where the model has no vertex for a MediaPipe point (vertex 0 stands there, as in GeneFace++).
    """

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    matched: np.ndarray


def model_files(folder: Path) -> tuple[Path, Path]:
    """The two files.

    Raises:
      InputError: one is missing.
    """
    for name in (MODEL_FILE, INDEX_FILE):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} has no {name}: put the Basel face model's files as GeneFace++ uses them there, or use --face-model mediapipe."
            )
    return folder / MODEL_FILE, folder / INDEX_FILE


def model_key(folder: Path) -> str:
    """Names the files' content."""
    return fingerprint([file_sha256(path) for path in model_files(folder)])


def load_face_model(folder: Path) -> FaceModel:
    """Reads the model at MediaPipe's points; its mean is moved to the origin, as GeneFace++ does.

    Raises:
      InputError: a file is missing or holds something else.
    """
    model_path, index_path = model_files(folder)
    try:
        arrays = scipy.io.loadmat(str(model_path), variable_names=["meanshape", "idBase", "exBase"])
        index = np.load(index_path, allow_pickle=False).astype(np.int64).reshape(-1)
        mean = np.asarray(arrays["meanshape"], np.float32).reshape(-1, 3)
        bases = [np.asarray(arrays[name], np.float32).reshape(*mean.shape, -1) for name in ("idBase", "exBase")]
        if index.shape != (N_POINTS,) or index.max() >= len(mean):
            raise ValueError(f"{index.shape} points up to vertex {index.max()}")
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise InputError(f"{folder} holds no Basel face model as GeneFace++ uses it ({error}): fetch its two files again.") from error
    vertex = np.maximum(index, 0)
    identity, expression = (base[vertex] for base in bases)
    return FaceModel((mean - mean.mean(0))[vertex], identity, expression, index >= 0)
