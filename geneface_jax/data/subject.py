"""A subject dataset in memory, and the compatibility of data and networks: feature types, camera, frames."""

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from data_tools.errors import InputError
from data_tools.landmarks68 import KnownFace
from data_tools.records import LARGEST_JSON, ArrayFile, Field, check_fields, read_json, short
from geneface_jax.io import configs

# -------- The subject dataset: one person's arrays in memory, pictures decoded on demand
#
# The folder layout is described in docs/file-formats.md. Names, shapes and dtypes are checked here once, when the dataset is loaded.

FORMAT = "geneface_jax.subject"
FORMAT_VERSION = 1

_REMAKE = "make the dataset again with `geneface prepare`"

_META = {
    "name": Field(str, high=1000),
    "fps": Field(float, low=1, high=240),
    "size": Field(int, low=2, high=8192),
    "n_frames": Field(int, low=1, high=100_000_000),
    "n_train": Field(int, low=1, high=100_000_000),
    "intrinsics": Field(dict),
    "face_model": Field(str, high=100),
    "audio_model": Field(str, high=100),
    "consent": Field(str, high=100_000, optional=True),
}
"""Fields of meta.json that the library uses."""

_LARGEST = 1_000_000
"""Size of an axis "C" below: features and points are a few thousand at most."""

# Array name -> (shape, dtype). "T" is n_frames, "A" is 2 * n_frames, "C" is any size.
_ARRAYS: dict[str, tuple[tuple[int | str, ...], type]] = {
    "audio_features": (("A", "C"), np.float32),
    "f0": (("A",), np.float32),
    "motion": (("T", 68, 3), np.float32),
    "motion_mean": ((68, 3), np.float32),
    "motion_std": ((68, 3), np.float32),
    "mean_face": ((68, 3), np.float32),
    "landmarks_2d": (("T", 68, 2), np.float32),
    "cameras": (("T", 4, 4), np.float32),
    "eye_openness": (("T",), np.float32),
    "face_box": (("T", 4), np.int32),
    "lip_box": (("T", 4), np.int32),
    "interpolated": (("T",), np.bool_),
}
_OPTIONAL_ARRAYS: dict[str, tuple[tuple[int | str, ...], type]] = {
    "landmarks_mediapipe": (("T", 478, 3), np.float32),
    "expression_basis": (("C", 68, 3), np.float32),
    "expression_offset": ((68, 3), np.float32),
}
_KNOWN_FACE: dict[str, tuple[tuple[int | str, ...], type]] = {
    "rigid_points": (("C", 3), np.float32),
    "rigid_weights": (("C",), np.float32),
    "skin_points": (("C", 3), np.float32),
    "skin_normals": (("C", 3), np.float32),
    "skin_texture": (("C",), np.float32),
}
"""Arrays of `Subject.known_face`; a dataset has all of them or none."""


class Intrinsics(NamedTuple):
    """Pinhole camera in pixels of the dataset's `size`."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclasses.dataclass(frozen=True)
class Subject:
    """One person's dataset. T is `n_frames`, A = 2T, H = W = `size`; units and coordinate frames as in docs/file-formats.md.

    Attributes:
      folder: the dataset folder (`SUBJECT/dataset`).
      meta: content of meta.json.
      name, fps, size, n_frames, n_train, intrinsics, face_model, audio_model: the fields of meta.json that the library uses.
      audio_features: [A, C] float32. f0: [A] float32, Hz, 0 = unvoiced.
      motion: [T, 68, 3] float32. motion_mean, motion_std, mean_face: [68, 3] float32.
      landmarks_2d: [T, 68, 2] float32, pixels.
      landmarks_mediapipe: [T, 478, 3] float32, pixels; None in a light dataset.
      cameras: [T, 4, 4] float32, camera to world, OpenGL axes, meters.
      eye_openness: [T] float32.
      face_box, lip_box: [T, 4] int32, x0 y0 x1 y1, x1 and y1 exclusive.
      interpolated: [T] bool.
      background: [H, W, 3] uint8.
      known_face: face geometry for posing other clips of the person; None in old datasets and where the head frame is a face model's.
      expression_basis, expression_offset: [E, 68, 3] and [68, 3] of an imported person whose networks use face-model coefficients:
        motion = coefficients @ basis + offset; None for others.
    """

    folder: Path
    meta: dict[str, Any]
    name: str
    fps: float
    size: int
    n_frames: int
    n_train: int
    intrinsics: Intrinsics
    face_model: str
    audio_model: str
    audio_features: np.ndarray
    f0: np.ndarray
    motion: np.ndarray
    motion_mean: np.ndarray
    motion_std: np.ndarray
    mean_face: np.ndarray
    landmarks_2d: np.ndarray
    cameras: np.ndarray
    eye_openness: np.ndarray
    face_box: np.ndarray
    lip_box: np.ndarray
    interpolated: np.ndarray
    background: np.ndarray
    landmarks_mediapipe: np.ndarray | None = None
    known_face: KnownFace | None = None
    expression_basis: np.ndarray | None = None
    expression_offset: np.ndarray | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of what networks are trained on; the same for a light copy, and with another name or consent."""
        facts = {field: getattr(self, field) for field in ("size", "n_frames", "n_train", "face_model", "audio_model")}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name in sorted(_ARRAYS):
            array = getattr(self, name)
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    @classmethod
    def load(cls, dataset_dir: str | os.PathLike[str]) -> "Subject":
        """Reads and checks a dataset folder, or the `dataset/` of a subject folder.

        Raises:
          InputError: the folder, a file or an array is missing, unreadable, or not as docs/file-formats.md describes.
        """
        folder = configs.resolve(dataset_dir)
        if not (folder / "meta.json").is_file() and (folder / "dataset" / "meta.json").is_file():
            folder = folder / "dataset"
        meta = _read_meta(folder)
        arrays = _read_arrays(folder, int(meta["n_frames"]), int(meta["size"]))
        face = {name: arrays.pop(name) for name in _KNOWN_FACE if name in arrays}
        size = int(meta["size"])
        background = _read_image(folder / "background.png", "RGB", size)
        return cls(
            folder=folder,
            meta=meta,
            name=meta["name"],
            fps=float(meta["fps"]),
            size=size,
            n_frames=int(meta["n_frames"]),
            n_train=int(meta["n_train"]),
            intrinsics=Intrinsics(**{key: float(meta["intrinsics"][key]) for key in Intrinsics._fields}),
            face_model=meta["face_model"],
            audio_model=meta["audio_model"],
            background=background,
            known_face=KnownFace(**face) if len(face) == len(_KNOWN_FACE) else None,
            **arrays,
        )

    @property
    def train(self) -> range:
        """Indices of the training frames."""
        return range(self.n_train)

    @property
    def heldout(self) -> range:
        """Indices of the held-out frames: the last 1/11 of the video."""
        return range(self.n_train, self.n_frames)

    @property
    def is_light(self) -> bool:
        """Whether this is a light copy, without pictures, which is enough for inference."""
        return not (self.folder / "frames").is_dir()

    def frames(self, indices: Iterable[int]) -> np.ndarray:
        """Frames, the person over `background`: uint8 [n, H, W, 3]. Raises as `load_all`."""
        return self.load_all("frames", indices)

    def head_masks(self, indices: Iterable[int]) -> np.ndarray:
        """Soft head masks: uint8 [n, H, W], 255 = head. Raises as `load_all`."""
        return self.load_all("head", indices)

    def torso(self, indices: Iterable[int]) -> np.ndarray:
        """Torso pictures: uint8 RGBA [n, H, W, 4]. Raises as `load_all`."""
        return self.load_all("torso", indices)

    def load_all(self, kind: str, indices: Iterable[int] | None = None, *, threads: int | None = None) -> np.ndarray:
        """Decodes pictures in a thread pool (decoding releases the interpreter lock).

        Args:
          kind: "frames", "head" or "torso".
          indices: frame numbers; None is all.
          threads: size of the pool; None is one per core.

        Returns:
          uint8 [n, H, W, 3], [n, H, W] or [n, H, W, 4].

        Raises:
          InputError: the dataset is a light copy, or a picture is missing, damaged or of another size.
          IndexError: a frame number outside 0 .. T-1.
        """
        suffix, mode, channels = _PICTURES[kind]
        numbers = list(range(self.n_frames)) if indices is None else [int(i) for i in indices]
        for number in numbers:
            if not 0 <= number < self.n_frames:
                raise IndexError(f"frame {number} of a subject with {self.n_frames} frames")
        if not (self.folder / kind).is_dir():
            raise InputError(
                f"{self.folder} is a light copy without {kind}/ (enough for `geneface infer`): training and evaluation need the "
                "full dataset that `geneface prepare` makes from the video."
            )
        out = np.empty((len(numbers), self.size, self.size, *channels), np.uint8)

        def read(slot: int) -> None:
            path = self.folder / kind / f"{numbers[slot]:06d}.{suffix}"
            out[slot] = _read_image(path, mode, self.size)

        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            list(pool.map(read, range(len(numbers))))
        return out


_PICTURES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "frames": ("jpg", "RGB", (3,)),
    "head": ("png", "L", ()),
    "torso": ("png", "RGBA", (4,)),
}


def _read_image(path: Path, mode: str, size: int) -> np.ndarray:
    """A picture of `size` x `size` pixels. Raises InputError: another size, or damaged, by the checksums that a PNG has."""
    try:
        if path.suffix == ".png":  # decoding alone doesn't compare them
            with Image.open(path) as image:
                image.verify()
        with Image.open(path) as image:
            if image.size == (size, size):  # before it is decoded, which may need any amount of memory
                return np.asarray(image.convert(mode))
            found = f"{image.width}x{image.height}"
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise InputError(f"The picture {path} is missing or damaged: {_REMAKE}.") from error
    raise InputError(f"{path} is {found} pixels but meta.json says size {size}: {_REMAKE}.")


def read_meta_json(folder: Path, kind: str, make: str, remake: str, largest: int = LARGEST_JSON) -> Any:
    """Content of `folder/meta.json`, of at most `largest` bytes.

    Raises:
      InputError: it is missing, is not JSON, or doesn't agree with its checksum. `kind` ("dataset", "corpus") names the folder; `make` and
        `remake` are the ways out.
    """
    path = folder / "meta.json"
    if not path.exists():
        raise InputError(f"There is no {kind} in {folder} (no meta.json): {make}.")
    return read_json(path, remake, largest=largest)


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    meta = read_meta_json(folder, "dataset", "make one with `geneface prepare VIDEO --out SUBJECT`", _REMAKE)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InputError(
            f'{path} does not describe a subject dataset (its "format" is not "{FORMAT}"): give the folder that `geneface prepare` made.'
        )
    if meta.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format_version {short(meta.get('format_version'))} but this version of geneface reads {FORMAT_VERSION}: {_REMAKE}."
        )
    check_fields(meta, path, _META, _REMAKE)
    missing = [key for key in Intrinsics._fields if not Field(float).accepts(meta["intrinsics"].get(key))]
    if missing:
        raise InputError(f'The field "intrinsics" of {path} lacks {", ".join(missing)}: {_REMAKE}.')
    camera = {key: meta["intrinsics"][key] / meta["size"] for key in Intrinsics._fields}
    # A head that fills the picture has a focal length of several sizes; a principal point may lie beside the picture.
    wrong = [key for key, value in camera.items() if not (0.05 <= value <= 200 if key.startswith("f") else -5 <= value <= 5)]
    if wrong:
        stated = f"{wrong[0]} {meta['intrinsics'][wrong[0]]:g}"
        raise InputError(f'The field "intrinsics" of {path} has {stated}, which no camera of {meta["size"]} pixels has: {_REMAKE}.')
    if not 0 < meta["n_train"] <= meta["n_frames"]:
        raise InputError(f'The field "n_train" of {path} is {meta["n_train"]}, not between 1 and n_frames ({meta["n_frames"]}): {_REMAKE}.')
    return meta


def _read_arrays(folder: Path, n_frames: int, size: int) -> dict[str, np.ndarray]:
    path = folder / "arrays.npz"
    known = {**_ARRAYS, **_OPTIONAL_ARRAYS, **_KNOWN_FACE}
    lengths = {"T": n_frames, "A": 2 * n_frames}
    arrays: dict[str, np.ndarray] = {}
    with ArrayFile(path, _REMAKE) as archive:
        for name, (shape, dtype) in known.items():
            if name not in archive.files and name not in _ARRAYS:
                continue
            wanted_shape = tuple(lengths.get(n, n) if isinstance(n, str) else n for n in shape)
            # Before the array is read: another shape may need any amount of memory.
            found_shape, found_dtype = archive.kind(name)
            fits = len(found_shape) == len(wanted_shape) and all(
                m <= _LARGEST if n == "C" else n == m for n, m in zip(wanted_shape, found_shape, strict=True)
            )
            if not fits or found_dtype != dtype:
                wanted = f"{np.dtype(dtype)} {list(wanted_shape)}"
                raise InputError(f'The array "{name}" of {path} is {found_dtype} {list(found_shape)}, not {wanted}: {_REMAKE}.')
            arrays[name] = archive[name]
    for name, array in arrays.items():
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise InputError(f'The array "{name}" of {path} has values that are not finite: {_REMAKE}.')
        if name.endswith("_box") and (array.min() < 0 or array.max() > size):
            raise InputError(f'The array "{name}" of {path} has boxes outside of the picture of {size} pixels: {_REMAKE}.')
    return arrays


# -------- Compatibility of data and networks: landmark and audio feature types, and the camera and frames of a field's training set
#
# Datasets and corpora store their feature types in meta.json; a stage copies them to `config.data` of its checkpoints, where the next stage
# and inference read them.


class FeatureTypes(NamedTuple):
    """The face model of the landmarks ("mediapipe", "bfm") and the audio features ("mel_f0", "hubert", "whisper").

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


def record_dataset(config: ConfigDict, fingerprint: str) -> None:
    """Writes `Subject.fingerprint` to `config.data.fingerprint`, and so into every checkpoint of the stage."""
    with config.unlocked():
        config.data.fingerprint = fingerprint


def trained_on(config: ConfigDict) -> str:
    """The fingerprint that a checkpoint recorded; "" if it is an older or imported one and has none."""
    return config.get("data", ConfigDict()).get("fingerprint") or ""


def require_same_dataset(name: str, recorded: str, subject: Subject) -> None:
    """Checks that a checkpoint was trained on this dataset.

    Args:
      name: the checkpoint, for the error sentence ("the head in DIR").
      recorded: `trained_on` of its config; "" passes.

    Raises:
      InputError: it was trained on another one.
    """
    if recorded and recorded != subject.fingerprint:
        raise InputError(
            f"{name[0].upper()}{name[1:]} was trained on another dataset than {subject.folder} holds now: restore the dataset it was "
            "trained on, or train it again."
        )


def record_camera(config: ConfigDict, size: int, intrinsics: Mapping[str, float]) -> None:
    """Writes a dataset's size and its fx, fy, cx, cy to `config.data.camera`, and so into every checkpoint of the stage."""
    with config.unlocked():
        config.data.camera = ConfigDict({"size": size, **{name: float(value) for name, value in intrinsics.items()}})


def require_same_camera(name: str, config: ConfigDict, subject: Subject) -> None:
    """Checks that a checkpoint was trained with the dataset's camera, and as `require_same_dataset`; older ones recorded none and pass.

    Args:
      name: the checkpoint, for the error sentence ("the head in DIR").

    Raises:
      InputError: the size or the intrinsics differ, names both; or other arrays do.
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
    require_same_dataset(name, trained_on(config), subject)


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
