"""Import of a person's processed data (trainval_dataset.npy and its pictures) as a subject dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import write_folder, write_json
from data_tools.landmarks68 import eye_openness, lip_box
from data_tools.landmarks68 import mean_face as canonical_mean_face
from geneface_jax.convert import trainval
from geneface_jax.convert.rules import require_new
from geneface_jax.convert.trainval import FILE, Trainval
from geneface_jax.data.motion import STD_FLOOR
from geneface_jax.data.subject import FORMAT, FORMAT_VERSION
from geneface_jax.rendering.cameras import project

# ----------------------------------------------------------------------------------------------------
# What a dataset of the originals leaves to the Basel face model, recovered from the data without it.
#
# A face model is linear: landmarks = mean + identity + basis * expression. A video shows enough frames to solve for the mean (with
# landmarks seen in the picture) and for the basis (with the coefficients that the originals store beside the landmarks).

PRIOR_WEIGHT = 1e-3
"""Weight of the prior mean face against the frames' mean: depth is hardly seen in the video of a person who does not turn."""


class ExpressionBasis(NamedTuple):
    """motion = expression @ basis + offset; basis [E, 68, 3], offset [68, 3]; residual: rms error over rms deviation of the motion."""

    basis: np.ndarray
    offset: np.ndarray
    residual: float


def expression_basis(expression: np.ndarray, motion: np.ndarray) -> ExpressionBasis:
    """Solves for the landmarks of a face model's coefficients by least squares.

    Directions of expression that the frames do not show come out as zero.

    Args:
      expression: [T, E]. motion: [T, 68, 3] of the same frames and one identity.
    """
    flat = motion.reshape(len(motion), -1).astype(np.float64)
    center, mean = expression.mean(0, dtype=np.float64), flat.mean(0)
    basis = np.linalg.lstsq(expression - center, flat - mean, rcond=1e-6)[0]
    error = (expression - center) @ basis - (flat - mean)
    spread = np.sqrt(np.mean((flat - mean) ** 2)) + 1e-12
    offset = mean - center @ basis
    shape = (expression.shape[1], 68, 3)
    return ExpressionBasis(
        basis.reshape(shape).astype(np.float32), offset.reshape(68, 3).astype(np.float32), float(np.sqrt(np.mean(error**2)) / spread)
    )


def fit_mean_face(
    motion: np.ndarray, landmarks_2d: np.ndarray, cameras: np.ndarray, intrinsics: dict[str, float], prior: np.ndarray
) -> np.ndarray:
    """The mean face under which the landmarks lie where the pictures show them.

    A pixel (u, v) says that (u - cx) z = fx x and (cy - v) z = fy y for the point (x, y, -z) in the camera: linear in the point, so every
    landmark is a small linear problem over all frames, held to the prior where the frames say little.

    Args:
      motion: [T, 68, 3]. landmarks_2d: [T, 68, 2] pixels. cameras: [T, 4, 4] camera to world, metres.
      intrinsics: fx, fy, cx, cy in pixels.
      prior: [68, 3] decimetres.

    Returns:
      [68, 3] float32, decimetres.
    """
    rotation, position = cameras[:, :3, :3].astype(np.float64), cameras[:, :3, 3].astype(np.float64)
    u = (landmarks_2d[..., 0].astype(np.float64) - intrinsics["cx"]) / intrinsics["fx"]
    v = (intrinsics["cy"] - landmarks_2d[..., 1].astype(np.float64)) / intrinsics["fy"]
    # Rows of (world to camera): x, y, and depth -z; each of the two equations is a vector that the point minus the camera is orthogonal to.
    right, up, depth = rotation[:, :, 0], rotation[:, :, 1], -rotation[:, :, 2]
    across = u[..., None] * depth[:, None] - right[:, None]
    along = v[..., None] * depth[:, None] - up[:, None]
    rows = np.concatenate([across, along])
    moved = position[:, None] - motion.astype(np.float64) / 100.0
    known = np.concatenate([np.sum(across * moved, -1), np.sum(along * moved, -1)])
    normal = np.einsum("npi,npj->pij", rows, rows) / len(motion)
    right_side = np.einsum("npi,np->pi", rows, known) / len(motion)
    load = PRIOR_WEIGHT * np.eye(3)
    solved = np.linalg.solve(normal + load, (right_side + PRIOR_WEIGHT * prior / 10.0)[..., None])[..., 0]
    return (10.0 * solved).astype(np.float32)


# ----------------------------------------------------------------------------------------------------
# The pictures that belong to a `trainval_dataset.npy`: where they lie, what they mean, and copying them in our layout.

JPEG = {"quality": 98, "subsampling": 0}
SOUND = "aud.wav"

# What tells a processed folder from another one.
_MARKS = ("gt_imgs", "com_imgs", "torso_imgs", "inpaint_torso_imgs")


@dataclasses.dataclass(frozen=True)
class ProcessedFolder:
    """A folder of the originals' data processing.

    Attributes:
      folder: `.../data/processed/videos/<video>`.
      data: the dataset it belongs to.
    """

    folder: Path
    data: Trainval

    def pictures(self, kind: str) -> list[Path]:
        """Files of "frames", "torso", "head" or "parsing", one a frame."""
        names = [Path(name.replace("\\", "/")) for name in self.data.pictures.get(kind, [])]
        return [self.folder / name.parent.name / name.name for name in names]

    def landmarks_2d(self) -> np.ndarray | None:
        """[T, 68, 2] landmarks that were found in the pictures, in pixels; None where the folder has none.

        GeneFace keeps a text file a frame, GeneFace++ all 478 points of MediaPipe in one array.

        Raises:
          InputError: a file is missing or damaged.
        """
        from data_tools.landmarks68 import pick_68

        size, n_frames = self.data.size, self.data.n_frames
        whole = self.folder / "lms_2d.npy"
        try:
            if whole.is_file():
                points = np.load(whole, allow_pickle=False).astype(np.float32)
                return pick_68(points.reshape(n_frames, -1, points.shape[-1]))[..., :2]
            if not (self.folder / "ori_imgs" / "0.lms").is_file():
                return None
            points = np.stack([np.loadtxt(self.folder / "ori_imgs" / f"{i}.lms", dtype=np.float32) for i in range(n_frames)])
            return np.clip(points.reshape(n_frames, 68, 2), -size, 2 * size)
        except (OSError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the landmarks in {self.folder} do not belong to {n_frames} frames ({reason}): process the video again."
            ) from error

    def copy(self, dataset: Path) -> list[str]:
        """Writes `frames`, `torso`, `head` and `audio.wav` into a dataset folder; returns what it did not find, for people.

        Raises:
          InputError: pictures are missing (how many and the first of them), damaged or of another size.
        """
        masks = self.pictures("parsing") if self.data.version == "GeneFace" else self.pictures("head")
        wanted = {"frames": self.pictures("frames"), "torso": self.pictures("torso"), "head": masks}
        absent = [path for paths in wanted.values() for path in paths if not path.is_file()]
        unnamed = [kind for kind, paths in wanted.items() if not paths]
        if absent or unnamed:
            what = f"{len(absent)} pictures are missing, the first is {absent[0]}" if absent else f"{self.data.path} names no {unnamed[0]}"
            raise InputError(f"{what}: copy the whole processed folder of the video, or name it with --frames.")
        mask = _from_parsing if self.data.version == "GeneFace" else _from_alpha
        self._each(wanted["frames"], dataset / "frames", "jpg", self._frame)
        self._each(wanted["torso"], dataset / "torso", "png", self._torso)
        self._each(wanted["head"], dataset / "head", "png", lambda source, target: self._mask(source, target, mask))
        if (self.folder / SOUND).is_file():
            shutil.copyfile(self.folder / SOUND, dataset / "audio.wav")
            return []
        return [f"{self.folder} has no {SOUND}: the dataset is without its sound, which `geneface evaluate --motion` needs."]

    def _each(self, sources: list[Path], folder: Path, suffix: str, write: Callable[[Path, Path], None]) -> None:
        folder.mkdir()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(write, sources, [folder / f"{i:06d}.{suffix}" for i in range(len(sources))]):
                pass

    def _open(self, path: Path, mode: str) -> Image.Image:
        try:
            picture = Image.open(path)
            if picture.size != (self.data.size, self.data.size):
                raise InputError(f"{path} has {picture.size[0]}x{picture.size[1]} pixels, {self.data.path} says {self.data.size}.")
            return picture if picture.mode == mode else picture.convert(mode)
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"the picture {path} is damaged: process the video again.") from error

    def _frame(self, source: Path, target: Path) -> None:
        """A JPEG stays as it is: encoding it again would lose."""
        picture = self._open(source, "RGB")
        if picture.format == "JPEG":
            shutil.copyfile(source, target)
        else:
            picture.save(target, **JPEG)

    def _torso(self, source: Path, target: Path) -> None:
        self._open(source, "RGBA").save(target)

    def _mask(self, source: Path, target: Path, mask: Callable[[np.ndarray], np.ndarray]) -> None:
        Image.fromarray((255 * mask(np.asarray(self._open(source, "RGBA")))).astype(np.uint8)).save(target)


def find_processed_folder(data: Trainval, named: str | Path | None = None) -> ProcessedFolder | None:
    """The processed folder of a dataset: `named`, or the one in its place beside the file; None when there is none.

    Raises:
      InputError: `named` is no such folder.
    """
    if named is not None:
        if not _is_processed(Path(named)):
            raise InputError(
                f"{named} is no processed folder (it has none of {', '.join(_MARKS)}): name .../data/processed/videos/<video>."
            )
        return ProcessedFolder(Path(named), data)
    video = data.path.absolute().parent
    places = [video, *(parent / "processed" / "videos" / video.name for parent in video.parents[:3])]
    return next((ProcessedFolder(place, data) for place in places if _is_processed(place)), None)


def find_dataset(source: Path) -> Path | None:
    """The `trainval_dataset.npy` that a path means: the file, its folder, or the processed folder of the same video; None for others.

    Raises:
      InputError: a processed folder without its dataset.
    """
    if source.is_file():
        return source if source.suffix == ".npy" else None
    if (source / FILE).is_file():
        return source / FILE
    if not _is_processed(source):
        return None
    video = source.absolute()
    places = [parent / "binary" / "videos" / video.name / FILE for parent in video.parents[:3]]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{source} has pictures but there is no {FILE} for it in {places[-1].parent}: give that file and --frames {source}."
        )
    return found


def _is_processed(folder: Path) -> bool:
    return any((folder / mark).is_dir() for mark in _MARKS)


def _from_parsing(picture: np.ndarray) -> np.ndarray:
    """GeneFace's parsing paints the head blue, the neck green, the torso red and the background white."""
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    return (blue > 127) & (red < 128) & (green < 128)


def _from_alpha(picture: np.ndarray) -> np.ndarray:
    return picture[..., 3] / 255.0


# ----------------------------------------------------------------------------------------------------
# A person's data of the originals -> our subject dataset (docs/file-formats.md), whole or not at all.

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
    pictures = find_processed_folder(data, frames)
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


def write_dataset(dataset: ImportedDataset, folder: str | Path) -> list[str]:
    """Writes the dataset folder, whole or not at all. Returns and raises as `fill`, and as `imported.require_new`."""
    notes: list[str] = []
    write_folder(require_new(folder), lambda target: notes.extend(fill_dataset(dataset, target)))
    return notes


def fill_dataset(dataset: ImportedDataset, target: Path) -> list[str]:
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
