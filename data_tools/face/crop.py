"""The square crop around head and shoulders: its position, a crop that follows the head, and the record of a crop (.crop.json)."""

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
from data_tools.records import Field, read_json, sealed, short
from data_tools.video import Box

# -------- Fixed crop

HAIR = 0.32
"""Hair and skull above the face oval's top, in face heights (forehead point to chin point)."""

HEAD_FRACTION = 0.575
"""Target of the head's height (hair to chin) over the crop's side."""

ABOVE_HEAD = 0.12
"""Target of the space above the hair over the crop's side."""

KEEP_FRACTION = (0.40, 0.82)
"""A square source whose head fraction is in this range is not cropped."""


def head_extent(faces: np.ndarray) -> np.ndarray:
    """[N, 478, 2+] source pixels -> [N, 4]: left, top (with hair), right and bottom (chin) of the head."""
    xy = np.asarray(faces, np.float64)[..., :2]
    height = np.linalg.norm(xy[:, FOREHEAD] - xy[:, CHIN], axis=-1)
    low, high = xy.min(1), xy.max(1)
    return np.stack([low[:, 0], low[:, 1] - HAIR * height, high[:, 0], high[:, 1]], 1)


def choose_crop(faces: np.ndarray, width: int, height: int) -> tuple[Box, float]:
    """The fixed crop for a clip.

    Args:
      faces: [N, 478, 2+] landmarks of the tracked face over the clip, source pixels.
      width, height: source pixels.

    Returns:
      The square (inside the picture) and the head's median height over its side.
    """
    extent = head_extent(faces)
    head = float(np.median(extent[:, 3] - extent[:, 1]))
    # 2nd to 98th percentile: robust against single bad detections, while the head's range of movement must fit.
    left, top = np.percentile(extent[:, :2], 2, axis=0)
    right, bottom = np.percentile(extent[:, 2:], 98, axis=0)
    if width == height and KEEP_FRACTION[0] <= head / height <= KEEP_FRACTION[1]:
        return Box(0, 0, width), head / height
    # A moving head needs a larger square: its range of movement plus the shoulders below.
    side = max(head / HEAD_FRACTION, (bottom - top) / (HEAD_FRACTION + 0.1), (right - left) / 0.8)
    side = int(min(round(side), width, height))
    x = int(np.clip(round((left + right) / 2.0 - side / 2.0), 0, width - side)) // 2 * 2
    y = int(np.clip(round(top - ABOVE_HEAD * side), 0, height - side)) // 2 * 2
    return Box(x, y, side), head / side


# -------- Crop that follows the head: a square of constant size with a smoothed center

SMOOTH_SECONDS = 0.8
"""Standard deviation of the Gaussian that smooths the center: too slow for nods and speech, quick enough for a step to the side."""


def follow_crop(faces: np.ndarray, width: int, height: int, fps: float) -> tuple[np.ndarray, int]:
    """The crop of every frame.

    Args:
      faces: [T, 478, 2+] landmarks of the tracked face in every frame, source pixels.
      width, height: source pixels.
      fps: frames per second of `faces`.

    Returns:
      [T, 2] float64 left and top of the square, inside the picture, in (fractional) source pixels; and its constant side.
    """
    extent = head_extent(faces)
    head = float(np.median(extent[:, 3] - extent[:, 1]))
    side = int(min(round(head / HEAD_FRACTION / 2.0) * 2, width // 2 * 2, height // 2 * 2))
    center = np.stack([(extent[:, 0] + extent[:, 2]) / 2.0, extent[:, 1] - ABOVE_HEAD * side + side / 2.0], 1)
    # The running median removes single bad detections.
    steady = ndimage.median_filter(center, (max(round(0.2 * fps) // 2 * 2 + 1, 1), 1), mode="nearest")
    smooth = ndimage.gaussian_filter1d(steady, SMOOTH_SECONDS * fps, axis=0, mode="nearest")
    return np.clip(smooth - side / 2.0, 0.0, [width - side, height - side]), side


# -------- Crop record: position of the crop in the source video, written next to the cropped video as JSON

FORMAT, FORMAT_VERSION = "geneface_jax.crop", 1
SUFFIX = ".crop.json"
DATASET_FPS = 25.0


PIXELS, FRAME_RATE, START = Field(int, low=1, high=10_000_000), Field(float, low=0.01, high=1000), Field(float, low=0, high=1e7)


@dataclasses.dataclass(frozen=True)
class CropRecord:
    """A square cut out of a video.

    Attributes:
      width, height: pixels of the source as displayed.
      side: of the square, source pixels.
      corners: [T, 2] left and top of the square in every frame, source pixels; [1, 2] for a fixed crop.
      fps: frame rate of `corners` and `frames`.
      start: seconds of the source at which the crop begins.
      frames: number of frames; None if unknown.
      loop: number of leading frames that `geneface infer` plays back and forth; None means all.
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
        """Whether the square follows the head."""
        return len(self.corners) > 1


def record_path(video: str | os.PathLike) -> Path:
    """Path of a cropped video's record: `face.mp4` -> `face.mp4.crop.json`."""
    return Path(f"{os.fspath(video)}{SUFFIX}")


def save_record(path: Path, record: CropRecord, source: dict[str, Any]) -> None:
    """Writes a record as JSON; `source` identifies the source video."""
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
    write_bytes(path, (json.dumps(sealed(value), ensure_ascii=False) + "\n").encode("utf-8"))


def load_record(path: str | os.PathLike) -> CropRecord:
    """Reads a crop record; raises InputError if there is none.

    `path` may be a `.crop.json`, the cropped video next to it, a subject folder, its dataset, or the dataset's meta.json.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [path / "dataset" / "meta.json", path / "meta.json"]
    else:
        candidates = [path if path.suffix == ".json" else record_path(path)]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise InputError(
            f"{path} holds no crop record: give the {SUFFIX} that `geneface crop` wrote next to its video, or the subject "
            "folder of `geneface prepare`."
        )
    try:
        value = read_json(file, "crop the video again, or give the subject folder")
        record = _from_dataset(value) if value["format"] == "geneface_jax.subject" else _from_crop(value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not a crop record ({str(error)[:200]}): crop the video again, or give the subject folder.") from error
    _check(record, file)
    return record


def _from_dataset(meta: dict[str, Any]) -> CropRecord:
    crop = meta["crop"]
    start = (crop.get("trim") or [0.0])[0]
    corners = np.array([[crop["x"], crop["y"]]], np.float64)
    # `geneface infer` takes the head's poses, and the body that belongs to them, from the training frames only.
    return CropRecord(
        crop["source_width"], crop["source_height"], crop["size"], corners, start=start, frames=meta["n_frames"], loop=meta["n_train"]
    )


def _from_crop(value: dict[str, Any]) -> CropRecord:
    if value["format"] != FORMAT or value["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format {value['format']!r}, version {value['format_version']}")
    corners = np.array(value["corners"], np.float64).reshape(-1, 2)
    size = value["source_width"], value["source_height"]
    return CropRecord(*size, value["size"], corners, float(value["fps"]), float(value["start"]), value["frames"])


def _check(record: CropRecord, file: Path) -> None:
    """Raises InputError if a value is out of range or the square leaves the source picture."""
    whole = [record.width, record.height, record.side, *(n for n in (record.frames, record.loop) if n is not None)]
    valid = all(PIXELS.accepts(n) for n in whole) and record.side >= 2 and START.accepts(record.start) and FRAME_RATE.accepts(record.fps)
    valid = valid and len(record.corners) and np.isfinite(record.corners).all()
    valid = valid and (record.loop is None or record.frames is None or record.loop <= record.frames)
    if not valid or (record.corners < 0).any() or (record.corners > [record.width - record.side, record.height - record.side]).any():
        raise InputError(
            f"The crop in {file} does not lie inside its picture of {short(record.width)}x{short(record.height)} pixels: "
            "crop the video again."
        )
