"""The square crop around head and shoulders: where it lies, a crop that follows the head, and the record beside the cropped video."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from data_tools.errors import InputError
from data_tools.io import write_bytes
from data_tools.landmarks68 import CHIN, FOREHEAD
from data_tools.video.read import Box

# ----------------------------------------------------------------------------------------------------
# Where to cut the square out of the source picture: fixed over the clip, head and shoulders in it.

HAIR = 0.32
"""Hair and skull above the face oval's top, in face heights (forehead point to chin point)."""

HEAD_FRACTION = 0.575
"""Head height (hair to chin) over the crop's side that a new crop aims at."""

ABOVE_HEAD = 0.12
"""Space above the hair over the crop's side that a new crop aims at."""

KEEP_FRACTION = (0.40, 0.82)
"""A square source whose head fraction lies here keeps its own frame."""


def head_extent(faces: np.ndarray) -> np.ndarray:
    """[N, 478, 2+] source pixels -> [N, 4]: left, top (with hair), right and bottom (chin) of the head."""
    xy = np.asarray(faces, np.float64)[..., :2]
    height = np.linalg.norm(xy[:, FOREHEAD] - xy[:, CHIN], axis=-1)
    low, high = xy.min(1), xy.max(1)
    return np.stack([low[:, 0], low[:, 1] - HAIR * height, high[:, 0], high[:, 1]], 1)


def choose_crop(faces: np.ndarray, width: int, height: int) -> tuple[Box, float]:
    """The crop for a clip.

    Args:
      faces: [N, 478, 2+] landmarks of the tracked face over the clip, source pixels.
      width, height: source pixels.

    Returns:
      The square (inside the picture) and the head's median height over its side.
    """
    extent = head_extent(faces)
    head = float(np.median(extent[:, 3] - extent[:, 1]))
    # 2 % to 98 %: one bad detection must not move the crop, but the head's real range must fit.
    left, top = np.percentile(extent[:, :2], 2, axis=0)
    right, bottom = np.percentile(extent[:, 2:], 98, axis=0)
    if width == height and KEEP_FRACTION[0] <= head / height <= KEEP_FRACTION[1]:
        return Box(0, 0, width), head / height
    # A head that moves about needs a larger square: its whole range plus the shoulders' share below.
    side = max(head / HEAD_FRACTION, (bottom - top) / (HEAD_FRACTION + 0.1), (right - left) / 0.8)
    side = int(min(round(side), width, height))
    x = int(np.clip(round((left + right) / 2.0 - side / 2.0), 0, width - side)) // 2 * 2
    y = int(np.clip(round(top - ABOVE_HEAD * side), 0, height - side)) // 2 * 2
    return Box(x, y, side), head / side


# ----------------------------------------------------------------------------------------------------
# A crop that goes with the head: a square of one size whose centre moves smoothly, for people who walk or lean about.

SMOOTH_SECONDS = 0.8
"""Standard deviation of the Gaussian that smooths the centre: slow enough that nods and speech stay in the picture, quick enough for a
step to the side."""


def follow_crop(faces: np.ndarray, width: int, height: int, fps: float) -> tuple[np.ndarray, int]:
    """The crop of every frame.

    Args:
      faces: [T, 478, 2+] landmarks of the tracked face in every frame, source pixels.
      width, height: source pixels.
      fps: frames per second of `faces`.

    Returns:
      [T, 2] float64 left and top of the square, inside the picture, in source pixels and fractions of them; and its side, for all frames.
    """
    extent = head_extent(faces)
    head = float(np.median(extent[:, 3] - extent[:, 1]))
    side = int(min(round(head / HEAD_FRACTION / 2.0) * 2, width // 2 * 2, height // 2 * 2))
    center = np.stack([(extent[:, 0] + extent[:, 2]) / 2.0, extent[:, 1] - ABOVE_HEAD * side + side / 2.0], 1)
    # A running median first: one bad detection must not pull at the frames around it.
    steady = ndimage.median_filter(center, (max(round(0.2 * fps) // 2 * 2 + 1, 1), 1), mode="nearest")
    smooth = ndimage.gaussian_filter1d(steady, SMOOTH_SECONDS * fps, axis=0, mode="nearest")
    return np.clip(smooth - side / 2.0, 0.0, [width - side, height - side]), side


# ----------------------------------------------------------------------------------------------------
# The note beside a cropped video: where in which picture it was cut out, so that a result can be put back.

FORMAT, FORMAT_VERSION = "geneface_jax.crop", 1
SUFFIX = ".crop.json"
DATASET_FPS = 25.0


@dataclasses.dataclass(frozen=True)
class CropRecord:
    """A square cut out of a video.

    Attributes:
      width, height: pixels of the source as shown.
      side: of the square, source pixels.
      corners: [T, 2] left and top of the square in every frame, source pixels; [1, 2] for one that stays where it is.
      fps: frames per second that `corners` and `frames` count.
      start: seconds of the source at which the crop begins.
      frames: how many there are; None where it is not known.
      loop: frames that `geneface infer` plays back and forth, from the start; None: all of them.
    """

    width: int
    height: int
    side: int
    corners: np.ndarray
    fps: float = DATASET_FPS
    start: float = 0.0
    frames: int | None = None
    loop: int | None = None

    @property
    def moves(self) -> bool:
        """Whether the square goes with the head."""
        return len(self.corners) > 1


def record_path(video: str | os.PathLike) -> Path:
    """Where the note of a cropped video lies: `face.mp4` -> `face.mp4.crop.json`."""
    return Path(f"{os.fspath(video)}{SUFFIX}")


def save_record(path: Path, record: CropRecord, source: dict[str, Any]) -> None:
    """Writes a record as JSON; `source` says which file it was cut out of."""
    value = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "source": source,
        "source_width": record.width,
        "source_height": record.height,
        "size": record.side,
        "fps": record.fps,
        "start": record.start,
        "frames": record.frames,
        "corners": np.round(record.corners, 3).tolist(),
    }
    write_bytes(path, (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8"))


def load_record(path: str | os.PathLike) -> CropRecord:
    """Reads what `data_tools.crop` wrote, or the crop of a subject.

    Args:
      path: a `.crop.json`, the cropped video beside it, a subject folder, its dataset, or the dataset's meta.json.

    Raises:
      InputError: there is no such file, or it holds no crop.
    """
    path = Path(path)
    tries = (
        [path / "dataset" / "meta.json", path / "meta.json"] if path.is_dir() else [path if path.suffix == ".json" else record_path(path)]
    )
    file = next((candidate for candidate in tries if candidate.is_file()), None)
    if file is None:
        raise InputError(
            f"{path} holds no crop: give the {SUFFIX} that `python -m data_tools.crop` wrote beside its video, or the subject folder of "
            "`geneface prepare`."
        )
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        record = _of_dataset(value) if value["format"] == "geneface_jax.subject" else _of_crop(value)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{file} is not the note of a crop ({error}): crop the video again, or give the subject folder.") from error
    _check(record, file)
    return record


def _of_dataset(meta: dict[str, Any]) -> CropRecord:
    crop = meta["crop"]
    start = (crop.get("trim") or [0.0])[0]
    corners = np.array([[crop["x"], crop["y"]]], np.float64)
    # The head's poses, and so the body that belongs to them, come from the training frames alone.
    return CropRecord(
        crop["source_width"], crop["source_height"], crop["size"], corners, start=start, frames=meta["n_frames"], loop=meta["n_train"]
    )


def _of_crop(value: dict[str, Any]) -> CropRecord:
    if value["format"] != FORMAT or value["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format {value['format']!r}, version {value['format_version']}")
    corners = np.array(value["corners"], np.float64).reshape(-1, 2)
    size = value["source_width"], value["source_height"]
    return CropRecord(*size, value["size"], corners, float(value["fps"]), float(value["start"]), value["frames"])


def _check(record: CropRecord, file: Path) -> None:
    """A box that does not lie in its picture can't be one that was cut out of it."""
    inside = [record.width - record.side, record.height - record.side]
    sane = len(record.corners) and record.side >= 2 and record.fps > 0 and record.start >= 0 and np.isfinite(record.corners).all()
    if not sane or (record.corners < 0).any() or (record.corners > inside).any():
        raise InputError(
            f"the crop in {file} does not lie inside its picture of {record.width}x{record.height} pixels: crop the video again."
        )
