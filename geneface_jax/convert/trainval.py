"""Reading a person's `trainval_dataset.npy` of GeneFace or GeneFace++ in our conventions.

Both hold per-frame cameras, landmark displacements (`idexp_lm3d`: ten times decimeters, the scale of our motion), HuBERT features and f0.
World, camera axes and scale are the same as ours. GeneFace++ states intrinsics for pictures of 224 pixels, rectangles in another order, and
normalizes its condition with the unbiased standard deviation.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError
from geneface_jax.convert import restricted_unpickle

FILE = "trainval_dataset.npy"
MAX_MISSING_AUDIO = 25
"""Audio frames (half a second) that may be missing at the end; they repeat the last frame."""

_RECREATE = "create the file again"
_PICTURES = {"frames": "gt_img_fname", "torso": "torso_img_fname", "head": "head_img_fname", "parsing": "parsing_fname"}


@dataclasses.dataclass(frozen=True)
class Trainval:
    """Content of the file, with T frames of which the first `n_train` are for training.

    Attributes:
      path: the file.
      version: "GeneFace" or "GeneFace++".
      size: H = W in pixels.
      intrinsics: fx, fy, cx, cy in pixels of `size`.
      background: uint8 [H, W, 3].
      motion: [T, 68, 3]. motion_mean, motion_std: [68, 3], the statistics that normalized the networks' condition.
      cameras: [T, 4, 4].
      audio_features: [2T, C]. f0: [2T].
      face_box, lip_box: [T, 4] int32, x0 y0 x1 y1; lip_box is None for GeneFace.
      eye_area: [T], eye area in percent; None for GeneFace.
      expression: [T, E] coefficients of the face model; None for GeneFace, whose networks predict landmarks.
      pictures: kind ("frames", "torso", "head", "parsing") -> the file name of each frame as written in the file.
    """

    path: Path
    version: str
    size: int
    n_train: int
    intrinsics: dict[str, float]
    background: np.ndarray
    motion: np.ndarray
    motion_mean: np.ndarray
    motion_std: np.ndarray
    cameras: np.ndarray
    audio_features: np.ndarray
    f0: np.ndarray
    face_box: np.ndarray
    lip_box: np.ndarray | None
    eye_area: np.ndarray | None
    expression: np.ndarray | None
    pictures: dict[str, list[str]]

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.motion)


def read(path: str | Path) -> Trainval:
    """Reads the file with `restricted_unpickle`.

    Raises:
      InputError: no such file, objects other than arrays, a field that is missing, of a wrong shape or not finite, frames that are not
        0 to T - 1 with the training frames first, or audio that is much shorter than the video.
    """
    path = Path(path)
    values = restricted_unpickle.load(path)
    if not isinstance(values, dict) or not {"train_samples", "val_samples"} <= values.keys():
        raise InputError(f"{path} is not a dataset of GeneFace (no train_samples and val_samples): give its {FILE}.")
    fields = _Fields(path, values)
    samples = _samples(fields)
    plus = "exp" in values
    n_frames, n_train = len(samples), len(values["train_samples"])
    background = fields.array("bg_img" if "bg_img" in values else "bc_img", np.uint8, (None, None, 3))
    size = background.shape[0]
    if background.shape[1] != size:
        raise InputError(f"{path} has pictures of {background.shape[1]}x{size} pixels: only square pictures are supported.")
    motion = fields.array("idexp_lm3d", np.float32, (n_frames, 204)) if plus else fields.of_samples("idexp_lm3d", samples, (68, 3))
    motion = motion.reshape(n_frames, 68, 3)
    mean, std = (motion.mean(0), motion.std(0, ddof=1)) if plus else (fields.points("idexp_lm3d_mean"), fields.points("idexp_lm3d_std"))
    box_axes = (0, 2, 1, 3) if plus else (0, 1, 2, 3)
    face = fields.of_samples("face_rect", samples, (4,))[:, box_axes]
    lip = fields.of_samples("lip_rect", samples, (4,))[:, box_axes] if plus else None
    if not plus:  # GeneFace stores x, y, width, height
        face = np.concatenate([face[:, :2], face[:, :2] + face[:, 2:]], axis=1)
    cameras = fields.of_samples("c2w", samples, (None, 4))
    if cameras.shape[1] not in (3, 4):
        raise InputError(f"{path}: c2w has the shape {list(cameras.shape[1:])}, not [3, 4] or [4, 4]: {_RECREATE}.")
    return Trainval(
        path=path,
        version="GeneFace++" if plus else "GeneFace",
        size=size,
        n_train=n_train,
        intrinsics=_intrinsics(fields, size),
        background=background,
        motion=motion,
        motion_mean=mean.astype(np.float32),
        motion_std=std.astype(np.float32),
        cameras=_to_homogeneous(cameras),
        audio_features=_two_per_frame(fields, "hubert", fields.array("hubert", np.float32, (None, None)), n_frames),
        f0=_two_per_frame(fields, "f0", fields.array("f0", np.float32, (None,)), n_frames),
        face_box=_clip_boxes(face, size),
        lip_box=None if lip is None else _clip_boxes(lip, size),
        eye_area=fields.array("eye_area_percent", np.float32, (n_frames,)) if plus else None,
        expression=fields.array("exp", np.float32, (n_frames, None)) if plus else None,
        pictures={
            kind: [str(sample[name]) for sample in samples] for kind, name in _PICTURES.items() if all(name in sample for sample in samples)
        },
    )


@dataclasses.dataclass(frozen=True)
class _Fields:
    """The fields of a file, validated when they are read."""

    path: Path
    values: Mapping[str, Any]

    def array(self, name: str, dtype: Any, shape: Sequence[int | None]) -> np.ndarray:
        if name not in self.values:
            raise InputError(
                f"{self.path} has no {name}: create the file again with the binarizer of the version that trained the networks."
            )
        return self._checked(name, self.values[name], dtype, shape)

    def points(self, name: str) -> np.ndarray:
        return self.array(name, np.float32, (1, 68, 3))[0]

    def of_samples(self, name: str, samples: Sequence[Mapping[str, Any]], shape: Sequence[int | None]) -> np.ndarray:
        """[T, ...] float32."""
        missing = [i for i, sample in enumerate(samples) if name not in sample]
        if missing:
            raise InputError(f"{self.path} has no {name} for {_list_frames(missing)}: {_RECREATE}.")
        try:
            stacked = np.stack([np.asarray(sample[name], np.float32) for sample in samples])
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: {name} is not an array of numbers of the same shape in every frame: {_RECREATE}.") from error
        return self._checked(name, stacked, np.float32, (len(samples), *shape))

    def _checked(self, name: str, value: Any, dtype: Any, shape: Sequence[int | None]) -> np.ndarray:
        try:
            array = np.asarray(value, dtype)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: {name} is not an array of numbers: {_RECREATE}.") from error
        if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise InputError(f"{self.path}: {name} has the shape {list(array.shape)}, not [{wanted}]: {_RECREATE}.")
        if not np.isfinite(array).all():
            bad = np.unique(np.argwhere(~np.isfinite(array))[:, 0]).tolist()
            raise InputError(
                f"{self.path}: {name} is not finite for {_list_frames(bad)} because the tracking failed there: process the video again."
            )
        return array


def _samples(fields: _Fields) -> list[Mapping[str, Any]]:
    """The frames in the video's order."""
    train, val = fields.values["train_samples"], fields.values["val_samples"]
    if not (isinstance(train, list) and isinstance(val, list) and all(isinstance(sample, dict) for sample in train + val)) or not train:
        raise InputError(f"{fields.path} lists no training frames: {_RECREATE}.")
    samples = train + val
    numbers = [sample.get("idx") for sample in samples]
    if numbers != list(range(len(samples))):
        wrong = next(i for i, number in enumerate(numbers) if number != i)
        raise InputError(
            f"{fields.path}: frame {wrong} of {len(samples)} has the number {numbers[wrong]}: give a file with all frames, the training "
            "frames first."
        )
    return samples


def _intrinsics(fields: _Fields, size: int) -> dict[str, float]:
    """Intrinsics scaled to `size`; the principal point, in both versions the picture's center, shows the size that they are stated for."""
    focal, cx, cy = (float(fields.array(name, np.float64, ())) for name in ("focal", "cx", "cy"))
    if not (focal > 0 and cx > 0 and cy > 0):
        raise InputError(f"{fields.path}: focal, cx, cy are {focal:g}, {cx:g}, {cy:g}, not all positive: {_RECREATE}.")
    scale = size / (2.0 * cx)
    return {"fx": focal * scale, "fy": focal * scale, "cx": cx * scale, "cy": cy * scale}


def _to_homogeneous(cameras: np.ndarray) -> np.ndarray:
    full = np.tile(np.eye(4, dtype=np.float32), (len(cameras), 1, 1))
    full[:, :3] = cameras[:, :3]
    return full


def _two_per_frame(fields: _Fields, name: str, values: np.ndarray, n_frames: int) -> np.ndarray:
    """Cuts or pads to two audio frames per video frame."""
    wanted = 2 * n_frames
    if not len(values) or len(values) < wanted - MAX_MISSING_AUDIO:
        raise InputError(
            f"{fields.path}: {name} lasts {len(values) / 50:.2f} s and the video {n_frames / 25:.2f} s: process the video again at 25 "
            "frames per second."
        )
    padded = np.concatenate([values, np.repeat(values[-1:], max(wanted - len(values), 0), axis=0)])
    return np.ascontiguousarray(padded[:wanted])


def _clip_boxes(boxes: np.ndarray, size: int) -> np.ndarray:
    """Boxes as int32, inside the picture and at least one pixel wide."""
    boxes = np.clip(np.rint(boxes), 0, size).astype(np.int32)
    low = np.minimum(boxes[:, :2], size - 1)
    return np.concatenate([low, np.maximum(boxes[:, 2:], low + 1)], axis=1)


def _list_frames(frames: Sequence[int]) -> str:
    first = ", ".join(map(str, frames[:5]))
    return f"frame {first}" if len(frames) == 1 else f"frames {first}{', ...' if len(frames) > 5 else ''} ({len(frames)} in all)"
