"""Import of a person's data of GeneFace and GeneFace++ (trainval_dataset.npy and its pictures) as a subject dataset."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import write_folder, write_json
from data_tools.landmarks68 import eye_openness, lip_box, pick_68
from data_tools.landmarks68 import mean_face as canonical_mean_face
from data_tools.records import read_npy, short
from geneface_jax.convert import restricted_unpickle
from geneface_jax.convert.rules import require_new
from geneface_jax.data.motion import STD_FLOOR
from geneface_jax.data.subject import FORMAT, FORMAT_VERSION
from geneface_jax.rendering.cameras import project

# -------- Reading a person's `trainval_dataset.npy` of GeneFace or GeneFace++ in our conventions
#
# Both hold per-frame cameras, landmark displacements (`idexp_lm3d`: ten times decimeters, the scale of our motion), HuBERT features and f0.
# World, camera axes and scale are the same as ours. GeneFace++ states intrinsics for pictures of 224 pixels, rectangles in another
# order, and normalizes its condition with the unbiased standard deviation.

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


def read_trainval(path: str | Path) -> Trainval:
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
            kind: [sample[name] for sample in samples]
            for kind, name in _PICTURES.items()
            if all(isinstance(sample.get(name), str) for sample in samples)
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
        # Each is checked before they are stacked: samples may share one huge array, which takes no room in the file.
        checked = [self._checked(f"{name} of frame {i}", sample[name], np.float32, shape, finite=False) for i, sample in enumerate(samples)]
        if len({value.shape for value in checked}) > 1:
            raise InputError(f"{self.path}: {name} is not an array of numbers of the same shape in every frame: {_RECREATE}.")
        return self._checked(name, np.stack(checked), np.float32, (len(samples), *shape))

    def _checked(self, name: str, value: Any, dtype: Any, shape: Sequence[int | None], finite: bool = True) -> np.ndarray:
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # too large a number becomes infinite, which is told below
                array = np.asarray(value, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{self.path}: {name} is not an array of numbers: {_RECREATE}.") from error
        if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise InputError(f"{self.path}: {name} has the shape {list(array.shape)}, not [{wanted}]: {_RECREATE}.")
        if finite and not np.isfinite(array).all():
            bad = np.unique(np.argwhere(~np.isfinite(array))[:, 0]).tolist() if array.ndim else [0]
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
    wrong = next((i for i, number in enumerate(numbers) if type(number) is not int or number != i), None)
    if wrong is not None:
        raise InputError(
            f"{fields.path}: frame {wrong} of {len(samples)} has the number {short(numbers[wrong])}: give a file with all frames, the "
            "training frames first."
        )
    return samples


def _intrinsics(fields: _Fields, size: int) -> dict[str, float]:
    """Intrinsics scaled to `size`; the principal point, in both versions the picture's center, shows the size that they are stated for."""
    focal, cx, cy = (float(fields.array(name, np.float64, ())) for name in ("focal", "cx", "cy"))
    if not all(0.01 < value < 1e6 for value in (focal, cx, cy)):
        raise InputError(f"{fields.path}: focal, cx, cy are {focal:g}, {cx:g}, {cy:g}, not pixels of a camera: {_RECREATE}.")
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


# -------- Import of a person's processed data (trainval_dataset.npy and its pictures) as a subject dataset

# -------- Mean face and expression basis, estimated from the data without the Basel face model
#
# The face model is linear: landmarks = mean + identity + basis * expression. A video has enough frames to solve for the mean (from the
# landmarks in the pictures) and for the basis (from the coefficients that the originals store with the landmarks).

PRIOR_WEIGHT = 1e-3
"""Weight of the prior mean face; it fixes the depth, which is poorly observed if the head does not turn."""


class ExpressionBasis(NamedTuple):
    """motion = expression @ basis + offset; basis [E, 68, 3], offset [68, 3]; residual: RMS error over RMS deviation of the motion."""

    basis: np.ndarray
    offset: np.ndarray
    residual: float


def expression_basis(expression: np.ndarray, motion: np.ndarray) -> ExpressionBasis:
    """Least-squares fit of the linear map from expression coefficients to landmarks.

    Directions of expression that do not occur in the frames get zeros.

    Args:
      expression: [T, E]. motion: [T, 68, 3] of the same frames, one identity.
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
    """Fits the mean face to 2D landmarks by regularized linear least squares.

    For a point (x, y, -z) in the camera frame, a pixel (u, v) gives (u - cx) z = fx x and (cy - v) z = fy y, which is linear in the point.
    Every landmark is therefore a 3x3 linear system over all frames, regularized towards the prior.

    Args:
      motion: [T, 68, 3]. landmarks_2d: [T, 68, 2] pixels. cameras: [T, 4, 4] camera to world, meters.
      intrinsics: fx, fy, cx, cy in pixels.
      prior: [68, 3] decimeters.

    Returns:
      [68, 3] float32, decimeters.
    """
    rotation, position = cameras[:, :3, :3].astype(np.float64), cameras[:, :3, 3].astype(np.float64)
    u = (landmarks_2d[..., 0].astype(np.float64) - intrinsics["cx"]) / intrinsics["fx"]
    v = (intrinsics["cy"] - landmarks_2d[..., 1].astype(np.float64)) / intrinsics["fy"]
    # World-to-camera rows x, y, and depth -z. Each equation is a vector orthogonal to (point - camera position).
    right, up, depth = rotation[:, :, 0], rotation[:, :, 1], -rotation[:, :, 2]
    row_u = u[..., None] * depth[:, None] - right[:, None]
    row_v = v[..., None] * depth[:, None] - up[:, None]
    rows = np.concatenate([row_u, row_v])
    shift = position[:, None] - motion.astype(np.float64) / 100.0
    right_side = np.concatenate([np.sum(row_u * shift, -1), np.sum(row_v * shift, -1)])
    normal = np.einsum("npi,npj->pij", rows, rows) / len(motion)
    projected = np.einsum("npi,np->pi", rows, right_side) / len(motion)
    solved = np.linalg.solve(normal + PRIOR_WEIGHT * np.eye(3), (projected + PRIOR_WEIGHT * prior / 10.0)[..., None])[..., 0]
    return (10.0 * solved).astype(np.float32)


# -------- Processed folder: the pictures of a `trainval_dataset.npy`, and copying them to our layout

JPEG = {"quality": 98, "subsampling": 0}
SOUND = "aud.wav"

# A processed folder has at least one of these folders.
_PICTURE_FOLDERS = ("gt_imgs", "com_imgs", "torso_imgs", "inpaint_torso_imgs")


@dataclasses.dataclass(frozen=True)
class ProcessedFolder:
    """Output folder of the originals' data processing.

    Attributes:
      folder: `.../data/processed/videos/<video>`.
      data: the dataset of the same video.
    """

    folder: Path
    data: Trainval

    def pictures(self, kind: str) -> list[Path]:
        """Files of "frames", "torso", "head" or "parsing", one per frame. Raises InputError if a name leads out of the folder."""
        names = [Path(name.replace("\\", "/")) for name in self.data.pictures.get(kind, [])]
        if any(".." in name.parts[-2:] for name in names):
            raise InputError(f"{self.data.path} names pictures outside of their folder: {_RECREATE}.")
        return [self.folder / name.parent.name / name.name for name in names]

    def landmarks_2d(self) -> np.ndarray | None:
        """[T, 68, 2] detected landmarks in pixels; None if the folder has none.

        GeneFace stores a text file per frame, GeneFace++ all 478 points of MediaPipe in one array.

        Raises:
          InputError: a file is missing or damaged.
        """
        size, n_frames = self.data.size, self.data.n_frames
        array = self.folder / "lms_2d.npy"
        try:
            if array.is_file():
                points = read_npy(array, "process the video again").astype(np.float32)
                return pick_68(points.reshape(n_frames, -1, points.shape[-1]))[..., :2]
            if not (self.folder / "ori_imgs" / "0.lms").is_file():
                return None
            points = np.stack([np.loadtxt(self.folder / "ori_imgs" / f"{i}.lms", dtype=np.float32) for i in range(n_frames)])
            return np.clip(points.reshape(n_frames, 68, 2), -size, 2 * size)
        except (OSError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"The landmarks in {self.folder} do not fit the {n_frames} frames ({reason}): process the video again."
            ) from error

    def copy(self, dataset: Path) -> list[str]:
        """Writes `frames`, `torso`, `head` and `audio.wav` into a dataset folder; returns notes for the user.

        Raises:
          InputError: pictures are missing (with their number and the first file), damaged or of another size.
        """
        masks = self.pictures("parsing") if self.data.version == "GeneFace" else self.pictures("head")
        wanted = {"frames": self.pictures("frames"), "torso": self.pictures("torso"), "head": masks}
        absent = [path for paths in wanted.values() for path in paths if not path.is_file()]
        unnamed = [kind for kind, paths in wanted.items() if not paths]
        if absent or unnamed:
            problem = f"{len(absent)} pictures are missing, first {absent[0]}" if absent else f"{self.data.path} names no {unnamed[0]}"
            raise InputError(f"{problem}: copy the complete processed folder of the video, or name it with --frames.")
        to_mask = _mask_of_parsing if self.data.version == "GeneFace" else _mask_of_alpha
        self._convert_all(wanted["frames"], dataset / "frames", "jpg", self._write_frame)
        self._convert_all(wanted["torso"], dataset / "torso", "png", self._write_torso)
        self._convert_all(wanted["head"], dataset / "head", "png", lambda source, target: self._write_mask(source, target, to_mask))
        if (self.folder / SOUND).is_file():
            shutil.copyfile(self.folder / SOUND, dataset / "audio.wav")
            return []
        return [f"{self.folder} has no {SOUND}, so the dataset has no audio, which `geneface evaluate --motion` needs."]

    def _convert_all(self, sources: list[Path], folder: Path, suffix: str, write: Callable[[Path, Path], None]) -> None:
        folder.mkdir()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write, sources, [folder / f"{i:06d}.{suffix}" for i in range(len(sources))]))

    def _open(self, path: Path, mode: str) -> Image.Image:
        try:
            picture = Image.open(path)
            if picture.size != (self.data.size, self.data.size):
                raise InputError(f"{path} has {picture.size[0]}x{picture.size[1]} pixels, not {self.data.size}: process the video again.")
            return picture if picture.mode == mode else picture.convert(mode)
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen kinds
            raise InputError(f"The picture {path} is damaged: process the video again.") from error

    def _write_frame(self, source: Path, target: Path) -> None:
        """Copies a JPEG unchanged, because encoding it again would lose quality."""
        picture = self._open(source, "RGB")
        if picture.format == "JPEG":
            shutil.copyfile(source, target)
        else:
            picture.save(target, **JPEG)

    def _write_torso(self, source: Path, target: Path) -> None:
        self._open(source, "RGBA").save(target)

    def _write_mask(self, source: Path, target: Path, to_mask: Callable[[np.ndarray], np.ndarray]) -> None:
        Image.fromarray((255 * to_mask(np.asarray(self._open(source, "RGBA")))).astype(np.uint8)).save(target)


def find_processed_folder(data: Trainval, folder: str | Path | None = None) -> ProcessedFolder | None:
    """The processed folder of a dataset: `folder`, or the one at its usual place relative to the file; None if there is none.

    Raises:
      InputError: `folder` is not a processed folder.
    """
    if folder is not None:
        if not _is_processed(Path(folder)):
            raise InputError(
                f"{folder} is not a processed folder (none of {', '.join(_PICTURE_FOLDERS)} in it): name .../data/processed/videos/<video>."
            )
        return ProcessedFolder(Path(folder), data)
    video = data.path.absolute().parent
    places = [video, *(parent / "processed" / "videos" / video.name for parent in video.parents[:3])]
    return next((ProcessedFolder(place, data) for place in places if _is_processed(place)), None)


def find_dataset(source: Path) -> Path | None:
    """The `trainval_dataset.npy` for a path: the file, its folder, or the processed folder of the same video; None for other paths.

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
        raise InputError(f"{source} has pictures, but there is no {FILE} in {places[-1].parent}: give that file and --frames {source}.")
    return found


def _is_processed(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in _PICTURE_FOLDERS)


def _mask_of_parsing(picture: np.ndarray) -> np.ndarray:
    """Head mask of GeneFace's parsing: head blue, neck green, torso red, background white."""
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    return (blue > 127) & (red < 128) & (green < 128)


def _mask_of_alpha(picture: np.ndarray) -> np.ndarray:
    return picture[..., 3] / 255.0


# -------- Conversion to our subject dataset (docs/file-formats.md)

MAX_RESIDUAL = 0.05
"""Residual of the expression basis above which the import warns."""


@dataclasses.dataclass(frozen=True)
class ImportedDataset:
    """A converted dataset, not yet written.

    Attributes:
      data: content of the file.
      arrays: of `arrays.npz`.
      pictures: folder of the pictures; None for a light dataset.
      notes: sentences for the user.
    """

    data: Trainval
    arrays: dict[str, np.ndarray]
    pictures: ProcessedFolder | None
    notes: tuple[str, ...]


def import_dataset(path: str | Path, frames: str | Path | None = None) -> ImportedDataset:
    """Reads a `trainval_dataset.npy`.

    Args:
      path: the file.
      frames: the processed folder with the pictures; None for its usual place relative to the file.

    Raises:
      InputError: as `trainval.read` and `find_processed_folder`.
    """
    data = read_trainval(path)
    pictures = find_processed_folder(data, frames)
    detected = pictures.landmarks_2d() if pictures else None
    notes = []
    prior = canonical_mean_face()
    if detected is None:
        face = prior
        notes.append("There are no 2D landmarks: MediaPipe's mean face replaces the person's in blinks and drawings.")
    else:
        face = fit_mean_face(data.motion, detected, data.cameras, data.intrinsics, prior)
    points = project((data.motion / 10.0 + face) / 10.0, data.cameras, np.array(list(data.intrinsics.values())))
    landmarks_2d = (points if detected is None else detected).astype(np.float32)
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
                f"{data.n_frames} frames leave {basis.residual:.0%} of the landmarks' motion unexplained by the "
                f"{data.expression.shape[1]} face model coefficients: mouths driven by a VAE of coefficients will be inaccurate."
            )
    below_floor = int((data.motion_std < STD_FLOOR).sum())
    if below_floor:
        notes.append(f"{below_floor} of 204 landmark coordinates have a standard deviation below {STD_FLOOR}, which replaces it.")
    if pictures is None:
        notes.append("No pictures were found, so this is a light dataset, which is enough for inference: name their folder with --frames.")
    return ImportedDataset(data, arrays, pictures, tuple(notes))


def write_dataset(dataset: ImportedDataset, folder: str | Path) -> list[str]:
    """Writes the dataset folder atomically. Returns and raises as `fill_dataset`; raises as `rules.require_new`."""
    notes: list[str] = []
    write_folder(require_new(folder), lambda target: notes.extend(fill_dataset(dataset, target)))
    return notes


def fill_dataset(dataset: ImportedDataset, target: Path) -> list[str]:
    """Writes the content of a dataset folder into `target`, an existing folder; returns further notes.

    Raises:
      InputError: pictures are missing, damaged or of another size.
    """
    notes = dataset.pictures.copy(target) if dataset.pictures else []
    with (target / "arrays.npz").open("wb") as file:
        np.savez(file, **dataset.arrays)
    Image.fromarray(dataset.data.background).save(target / "background.png")
    write_json(target / "meta.json", _meta(dataset.data), checksum=True)
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
