"""The 68 landmarks with head pose removed, in the canonical head frame; and blink detection."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import percentile_filter
from scipy.signal import find_peaks

from data_tools.face.pose import HeadPose, intrinsics
from data_tools.landmarks68 import LANDMARKS_68, RIGID

# -------- Back-projection of landmarks into the canonical head frame


def canonical_landmarks(landmarks: np.ndarray, pose: HeadPose, size: int) -> np.ndarray:
    """Landmarks of a clip in the canonical head frame.

    Each pixel is back-projected along its ray to the point's depth: MediaPipe's relative z, mapped to the scale and offset of the person's
    rigid shape. A depth error moves a point along its ray only, so it hardly affects x and y.

    Args:
      landmarks: [T, 478, 3] pixels, z in pixels, smaller is nearer.
      pose: the clip's poses.
      size: pixels of the crop.

    Returns:
      [T, 68, 3] float32, decimeters.
    """
    depths = _Depths(landmarks, pose, size)
    blocks = [_back_project(landmarks[block], LANDMARKS_68, pose, depths, block, size) for block in _blocks(len(landmarks))]
    return np.concatenate(blocks).astype(np.float32)


def mean_mesh(landmarks: np.ndarray, pose: HeadPose, size: int) -> np.ndarray:
    """[T, P, 3] pixels -> [P, 3] float64 dm: the clip's average of all points in the canonical head frame (P >= 468)."""
    depths = _Depths(landmarks, pose, size)
    index, blocks = np.arange(landmarks.shape[1]), _blocks(len(landmarks))
    return sum(_back_project(landmarks[block], index, pose, depths, block, size).sum(0) for block in blocks) / len(landmarks)


BLOCK = 1000
"""Frames back-projected at a time, to bound the memory of double-precision points."""


def _blocks(n_frames: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, n_frames)) for first in range(0, n_frames, BLOCK)]


def _back_project(landmarks: np.ndarray, index: np.ndarray, pose: HeadPose, depths: _Depths, block: slice, size: int) -> np.ndarray:
    """[B, 478, 3] pixels of the clip's frames `block` -> points `index` [B, P, 3] float64 dm."""
    camera = intrinsics(size)
    points = np.asarray(landmarks[:, index], np.float64)
    depth = depths(points[..., 2], block)
    x = (points[..., 0] - camera["cx"]) * depth / camera["fx"]
    y = -(points[..., 1] - camera["cy"]) * depth / camera["fy"]
    return (np.stack([x, y, -depth], -1) - pose.translation[block, None]) @ pose.rotation[block]


class _Depths:
    """Distance from the camera along its axis, dm, from MediaPipe's z.

    MediaPipe's z is in pixels at the face's own scale. One factor for the clip and one offset per frame convert it to decimeters; they are
    fitted on the rigid points, whose true depth is known.
    """

    def __init__(self, landmarks: np.ndarray, pose: HeadPose, size: int) -> None:
        true_depth = -(pose.shape @ pose.rotation.transpose(0, 2, 1) + pose.translation[:, None])[..., 2]
        self.distance = true_depth.mean(1)
        self.scale = self.distance / intrinsics(size)["fx"]
        rigid = np.asarray(landmarks[:, RIGID, 2], np.float64) * self.scale[:, None]
        self.center = rigid.mean(1)
        centered, target = rigid - self.center[:, None], true_depth - self.distance[:, None]
        self.factor = float((centered * target).sum() / max((centered**2).sum(), 1e-9))

    def __call__(self, z: np.ndarray, block: slice) -> np.ndarray:
        """[B, P] z of the frames `block` -> [B, P] dm."""
        return self.factor * (z * self.scale[block, None] - self.center[block, None]) + self.distance[block, None]


# -------- Blinks

OPEN_SECONDS = 4.0
"""Window of the eyes' normal openness: longer than a blink, shorter than a change of expression."""

CLOSED = 0.45
"""At a blink's peak, openness is below this share of the normal openness."""

DEPTH = 0.25
"""Minimum prominence of a blink, as a share of the normal openness: lowered eyes are not blinks."""

APART_SECONDS = 0.16
"""Minimum time between two blinks."""


def find_blinks(openness: np.ndarray, fps: float) -> np.ndarray:
    """[T] lid gap / eye width (`landmarks68.eye_openness`) -> [n] int frames of the blinks' peaks, increasing."""
    openness = np.asarray(openness, np.float64)
    normal = percentile_filter(openness, 80, size=max(round(OPEN_SECONDS * fps), 1), mode="nearest")
    relative = openness / np.maximum(normal, 1e-6)
    peaks, _ = find_peaks(1.0 - relative, height=1.0 - CLOSED, prominence=DEPTH, distance=max(round(APART_SECONDS * fps), 1))
    return peaks
