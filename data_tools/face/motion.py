"""The 68 landmarks with head pose removed: what the person's face does, in the canonical head frame."""

from __future__ import annotations

import numpy as np

from data_tools.face.canonical import LANDMARKS_68
from data_tools.face.geometry import RIGID
from data_tools.face.pose import HeadPose, intrinsics


def canonical_landmarks(landmarks: np.ndarray, pose: HeadPose, size: int) -> np.ndarray:
    """Landmarks of a clip in the canonical head frame.

    x and y come from the picture: the ray through each pixel is followed to the point's depth. A depth error moves a point along its ray
    only, so it hardly shows in x and y. The depth itself is MediaPipe's relative z, brought to the scale and offset of the person's rigid
    shape.

    Args:
      landmarks: [T, 478, 3] pixels, z in pixels, smaller is nearer.
      pose: the clip's poses.
      size: pixels of the crop.

    Returns:
      [T, 68, 3] float32, decimetres.
    """
    depths = _Depths(landmarks, pose, size)
    blocks = [_lifted(landmarks[block], LANDMARKS_68, pose, depths, block, size) for block in _blocks(len(landmarks))]
    return np.concatenate(blocks).astype(np.float32)


def mean_mesh(landmarks: np.ndarray, pose: HeadPose, size: int) -> np.ndarray:
    """[T, P, 3] pixels -> [P, 3] float64 dm: the clip's average of all points in the canonical head frame (P >= 468)."""
    depths = _Depths(landmarks, pose, size)
    index = np.arange(landmarks.shape[1])
    return sum(_lifted(landmarks[block], index, pose, depths, block, size).sum(0) for block in _blocks(len(landmarks))) / len(landmarks)


BLOCK = 1000
"""Frames lifted at a time: a long clip's points in double precision would not be small."""


def _blocks(n_frames: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, n_frames)) for first in range(0, n_frames, BLOCK)]


def _lifted(landmarks: np.ndarray, index: np.ndarray, pose: HeadPose, depths: _Depths, block: slice, size: int) -> np.ndarray:
    """[B, 478, 3] pixels of the clip's frames `block` -> points `index` [B, P, 3] float64 dm."""
    camera = intrinsics(size)
    points = np.asarray(landmarks[:, index], np.float64)
    depth = depths(points[..., 2], block)
    x = (points[..., 0] - camera["cx"]) * depth / camera["fx"]
    y = -(points[..., 1] - camera["cy"]) * depth / camera["fy"]
    return (np.stack([x, y, -depth], -1) - pose.translation[block, None]) @ pose.rotation[block]


class _Depths:
    """Distance from the camera along its axis, dm, from MediaPipe's z.

    MediaPipe's z is in pixels at the face's own scale; one factor for the clip and one offset per frame carry it to decimetres, fitted
    where the true depth is known: on the rigid points.
    """

    def __init__(self, landmarks: np.ndarray, pose: HeadPose, size: int) -> None:
        known = -(pose.shape @ pose.rotation.transpose(0, 2, 1) + pose.translation[:, None])[..., 2]
        self.distance = known.mean(1)
        self.scale = self.distance / intrinsics(size)["fx"]
        rigid = np.asarray(landmarks[:, RIGID, 2], np.float64) * self.scale[:, None]
        self.centre = rigid.mean(1)
        centred, target = rigid - self.centre[:, None], known - self.distance[:, None]
        self.factor = float((centred * target).sum() / max((centred**2).sum(), 1e-9))

    def __call__(self, z: np.ndarray, block: slice) -> np.ndarray:
        """[B, P] z of the frames `block` -> [B, P] dm."""
        return self.factor * (z * self.scale[block, None] - self.centre[block, None]) + self.distance[block, None]
