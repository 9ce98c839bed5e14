"""What training and evaluation both measure of a motion: one meaning each.

Points follow the 68-point convention. A motion may be [T, 68, 3] or flattened to [T, 204].
"""

from __future__ import annotations

import numpy as np

MOUTH = slice(48, 68)

_UPPER_INNER_LIP, _LOWER_INNER_LIP = (61, 62, 63), (67, 66, 65)


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """[..., 68, C] -> [...]: gap between the middles of the inner lips over the distance of the mouth's outer corners; 0 = shut.

    Needs landmarks; of a motion whose mean face is unknown take `lip_distance`.
    """
    gap = np.linalg.norm(landmarks[..., 62, :] - landmarks[..., 66, :], axis=-1)
    width = np.linalg.norm(landmarks[..., 48, :] - landmarks[..., 54, :], axis=-1)
    return gap / np.maximum(width, 1e-6)


def lip_distance(motion: np.ndarray) -> np.ndarray:
    """Motion of T frames -> [T]: vertical distance of the inner lips in the motion's unit, up to the mean face's own (a constant)."""
    points = motion.reshape(-1, 68, 3)
    return (points[:, _UPPER_INNER_LIP, 1] - points[:, _LOWER_INNER_LIP, 1]).mean(axis=-1)


def motion_lmd(prediction: np.ndarray, truth: np.ndarray, points: slice = MOUTH) -> float:
    """Distance of two motions after subtracting each clip's own mean: who the person is can't be heard.

    Args:
      prediction, truth: motions of T frames in one unit. A face that does not move is `np.zeros_like(truth)`.
      points: which of the 68.

    Returns:
      Mean distance of the points, in the motions' unit.
    """
    moved = [(x - x.mean(0, keepdims=True)).reshape(-1, 68, 3)[:, points] for x in (prediction, truth)]
    return float(np.linalg.norm(moved[0] - moved[1], axis=-1).mean())


def pearson(a: np.ndarray, b: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Pearson correlation of two [T] tracks over valid frames; nan when one of them is constant or fewer than three frames are left."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if valid is not None:
        a, b = a[valid], b[valid]
    if len(a) < 3:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 else float("nan")
