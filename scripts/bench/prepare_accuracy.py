"""How near a dataset comes to the truth, on a clip of the avatar, where the truth is known (`data_tools.avatar`)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.face.pose import similarity
from data_tools.io import read_npz
from data_tools.landmarks68 import JAW, LANDMARKS_68

REFERENCE_SIZE = 512
"""Pixel figures are given for pictures of this size."""

MASK_EVERY = 10
"""Every so many frames a head mask is compared."""


def measure_accuracy(dataset: Path, truth: Path, first: int = 0) -> dict[str, float]:
    """Compares a dataset with the clip's truth.

    Args:
      dataset: made from `truth`/video.mp4, not cropped.
      truth: folder of `avatar.clip.render_clip`.
      first: the dataset's first frame in the clip.

    Returns:
      landmarks_px, jaw_px, other_px: median distance, of all 68 points, the 17 of the jaw line, and the rest, in pixels at 512;
      jaw_to_outline_px: median distance of the jaw points from the true jaw line, wherever along it;
      landmarks_3d: median distance after one similarity for the clip, over the distance of the outer eye corners;
      pose_median_deg, pose_p95_deg: angle between found and true head rotation after removing one constant rotation;
      head_iou: mean intersection over union of the head masks at one half;
      background_psnr: dB, over the pixels that are farther than 10 px (at 512) from the person in some frame.
    """
    arrays, known = read_npz(dataset / "arrays.npz"), read_npz(truth / "truth.npz")
    n_frames, size = len(arrays["motion"]), _read(dataset / "background.png").shape[0]
    span = slice(first, first + n_frames)
    true_size = 2.0 * float(known["intrinsics"][2])
    found = arrays["landmarks_2d"].astype(np.float64) * REFERENCE_SIZE / size
    mesh = known["mesh_2d"][span].astype(np.float64) * REFERENCE_SIZE / true_size
    distance = np.linalg.norm(found - mesh[:, LANDMARKS_68], axis=-1)
    angles = pose_errors(arrays["cameras"][:, :3, :3], known["cameras"][span, :3, :3])
    return {
        "landmarks_px": float(np.median(distance)),
        "jaw_px": float(np.median(distance[:, JAW])),
        "other_px": float(np.median(distance[:, JAW.stop :])),
        "jaw_to_outline_px": float(np.median(_distance_to_line(found[:, JAW], mesh[:, LANDMARKS_68[JAW]]))),
        "landmarks_3d": _error_3d(arrays["motion"] / 10.0 + arrays["mean_face"], known["motion"][span] / 10.0 + arrays["mean_face"]),
        "pose_median_deg": float(np.median(angles)),
        "pose_p95_deg": float(np.percentile(angles, 95)),
        "head_iou": _head_iou(dataset, truth, n_frames, first),
        "background_psnr": _background_psnr(dataset, truth, size),
    }


def pose_errors(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """[T, 3, 3] camera rotations -> [T] degrees between them after removing one constant rotation of the world."""
    difference = found.astype(np.float64) @ true.astype(np.float64).transpose(0, 2, 1)
    constant = Rotation.from_matrix(difference).mean().as_matrix()
    return np.degrees(Rotation.from_matrix(constant.T @ difference).magnitude())


def _error_3d(found: np.ndarray, true: np.ndarray) -> float:
    scale, turn, shift = similarity(found.reshape(-1, 3).astype(np.float64), true.reshape(-1, 3).astype(np.float64))
    eyes = np.linalg.norm(true[:, 36] - true[:, 45], axis=-1).mean()
    return float(np.median(np.linalg.norm(scale * found @ turn.T + shift - true, axis=-1)) / eyes)


def _distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """[T, P, 2] points and polylines [T, L, 2] -> [T, P] distance to the nearest place on the line."""
    start, along = line[:, None, :-1], np.diff(line, axis=1)[:, None]
    share = ((points[:, :, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
    nearest = start + np.clip(share, 0.0, 1.0)[..., None] * along
    return np.linalg.norm(points[:, :, None] - nearest, axis=-1).min(-1)


def _head_iou(dataset: Path, truth: Path, n_frames: int, first: int) -> float:
    overlaps = []
    for index in range(0, n_frames, MASK_EVERY):
        found = _read(dataset / "head" / f"{index:06d}.png", cv2.IMREAD_GRAYSCALE)
        true = _read(truth / "head" / f"{first + index:06d}.png", cv2.IMREAD_GRAYSCALE)
        true = cv2.resize(true, found.shape[::-1], interpolation=cv2.INTER_AREA)
        overlaps.append(((found > 127) & (true > 127)).sum() / ((found > 127) | (true > 127)).sum())
    return float(np.mean(overlaps))


def _background_psnr(dataset: Path, truth: Path, size: int) -> float:
    """Where it was ever visible: outside what every frame's person covers, by the plate's own margin."""
    found, true = (_read(folder / "background.png").astype(np.float64) for folder in (dataset, truth))
    true = cv2.resize(true, (size, size), interpolation=cv2.INTER_AREA)
    seen = np.zeros((size, size), np.float32)
    for path in sorted((dataset / "torso").iterdir())[::MASK_EVERY]:
        head = _read(dataset / "head" / path.name, cv2.IMREAD_GRAYSCALE)
        torso = _read(path, cv2.IMREAD_UNCHANGED)[..., 3]
        free = ((head < 26) & (torso < 26)).astype(np.uint8)
        seen = np.maximum(seen, cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    visible = seen > 10.0 * size / REFERENCE_SIZE
    return float(10.0 * np.log10(255.0**2 / max(((found - true)[visible] ** 2).mean(), 1e-9)))


def _read(path: Path, mode: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """A picture.

    Raises:
      FileNotFoundError: it is missing or damaged.
    """
    picture = cv2.imread(str(path), mode)
    if picture is None:
        raise FileNotFoundError(path)
    return picture
