"""Figures about landmarks: the distance between two faces, how much a track trembles.

All functions take the 68-point convention; `from_mediapipe` picks those points out of MediaPipe's 478.
"""

from __future__ import annotations

import numpy as np

from data_tools.landmarks68 import LANDMARKS_68
from geneface_jax.data.motion import MOUTH

NOSE = slice(27, 36)


def from_mediapipe(landmarks: np.ndarray) -> np.ndarray:
    """[..., 478, C] -> [..., 68, C]."""
    return landmarks[..., LANDMARKS_68, :]


def lmd(a: np.ndarray, b: np.ndarray) -> float:
    """Landmark distance of two videos: mean distance in pixels over the mouth's points 48 to 67, faces aligned at the nose.

    Aligned means that each frame's mean of the nose points 27 to 35 is subtracted, so that a shift of the head does not count.

    Args:
      a, b: [T, 68, 2 or more] pixels at the same size; x and y are used.
    """
    aligned = [x[:, MOUTH, :2] - x[:, NOSE, :2].mean(1, keepdims=True) for x in (a, b)]
    return float(np.linalg.norm(aligned[0] - aligned[1], axis=-1).mean())


def jitter(track: np.ndarray) -> float:
    """Mean absolute second difference over time, in the unit of the track; points are measured by distance.

    Args:
      track: [T, ...]; with three axes or more the last one holds coordinates.
    """
    if len(track) < 3:
        return 0.0
    second = track[2:] - 2.0 * track[1:-1] + track[:-2]
    return float(np.abs(second).mean() if second.ndim < 3 else np.linalg.norm(second, axis=-1).mean())


def pose_jitter(cameras: np.ndarray) -> tuple[float, float]:
    """Trembling of a camera path: mean angle in degrees by which the rotation's velocity changes per frame, and the translation's in mm.

    Args:
      cameras: [T, 4, 4], metres.
    """
    if len(cameras) < 3:
        return 0.0, 0.0
    rotation = cameras[:, :3, :3].astype(np.float64)
    step = np.einsum("tji,tjk->tik", rotation[:-1], rotation[1:])
    change = np.einsum("tji,tjk->tik", step[:-1], step[1:])
    # The angle from the antisymmetric part: the trace is blind below a hundredth of a degree.
    axis = np.stack([change[:, 2, 1] - change[:, 1, 2], change[:, 0, 2] - change[:, 2, 0], change[:, 1, 0] - change[:, 0, 1]], -1)
    angle = np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), np.trace(change, axis1=1, axis2=2) - 1.0))
    return float(angle.mean()), 1000.0 * jitter(cameras[:, None, :3, 3].astype(np.float64))
