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
    return canonical_mesh(landmarks, pose, size)[:, LANDMARKS_68].astype(np.float32)


def canonical_mesh(landmarks: np.ndarray, pose: HeadPose, size: int) -> np.ndarray:
    """As `canonical_landmarks`, for all points: [T, P, 3] pixels -> [T, P, 3] float64 dm (P >= 468)."""
    camera = intrinsics(size)
    landmarks = np.asarray(landmarks, np.float64)
    depth = _depths(landmarks, pose, camera["fx"])
    x = (landmarks[..., 0] - camera["cx"]) * depth / camera["fx"]
    y = -(landmarks[..., 1] - camera["cy"]) * depth / camera["fy"]
    return (np.stack([x, y, -depth], -1) - pose.translation[:, None]) @ pose.rotation


def _depths(landmarks: np.ndarray, pose: HeadPose, focal: float) -> np.ndarray:
    """[T, P] distance from the camera along its axis, dm.

    MediaPipe's z is in pixels at the face's own scale; one factor for the clip and one offset per frame carry it to decimetres, fitted
    where the true depth is known: on the rigid points.
    """
    known = -(pose.shape @ pose.rotation.transpose(0, 2, 1) + pose.translation[:, None])[..., 2]
    distance = known.mean(1)
    guess = landmarks[..., 2] * (distance / focal)[:, None]
    rigid = guess[:, RIGID]
    centred, target = rigid - rigid.mean(1, keepdims=True), known - distance[:, None]
    factor = float((centred * target).sum() / max((centred**2).sum(), 1e-9))
    return factor * (guess - rigid.mean(1, keepdims=True)) + distance[:, None]
