"""Posing a second clip of a person whom another clip has shown, in that clip's head frame.

A short clip shows its person from few sides: the rigid shape it suggests is bent by the poses it has, and its head frame is turned against
the other's by a degree or two. The first clip's shape, and the mean brightness of its skin, hold the second one to the first one's frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import cv2
import numpy as np

from data_tools.face.align import Skin, align_texture, sample_texture
from data_tools.face.pose import HeadPose, poses_of_known

LOOK_SIZE = 512
"""Pixels at which `prepare` looks at the skin, and so at which it is looked at here: samples lie half a pixel aside, whatever its size."""


@dataclasses.dataclass(frozen=True)
class KnownFace:
    """What a clip tells of its person; float32, points in decimetres of the clip's head frame.

    Attributes:
      rigid_points, rigid_weights: [R, 3] and [R], the rigid landmarks (`geometry.RIGID`) and how steady each proved, mean 1.
      skin_points, skin_normals: [N, 3], points on the rigid skin (`align.skin_of`) and unit normals there.
      skin_texture: [N] grey levels, mean brightness there over the training frames.
    """

    rigid_points: np.ndarray
    rigid_weights: np.ndarray
    skin_points: np.ndarray
    skin_normals: np.ndarray
    skin_texture: np.ndarray


def known_face(pose: HeadPose, skin: Skin, texture: np.ndarray) -> KnownFace:
    """What to keep of a clip.

    Args:
      pose: the clip's poses.
      skin: where its skin was looked at.
      texture: [N] from `align.mean_texture`; points that were never seen (NaN) are left out.
    """
    seen = np.isfinite(texture)
    kept = (pose.shape, pose.weights, skin.points[seen], skin.normals[seen], texture[seen])
    return KnownFace(*(np.asarray(array, np.float32) for array in kept))


def pose_known(face: KnownFace, landmarks: np.ndarray, frames: Iterable[np.ndarray], size: int, trust: np.ndarray) -> HeadPose:
    """Poses of a clip in the head frame of the clip that `face` is from.

    Args:
      face: the person.
      landmarks: [T, 478, 3] pixels of a size x size crop.
      frames: T pictures, uint8 [size, size, 3] RGB; read once.
      size: pixels.
      trust: [T] 0..1, weight of each frame.
    """
    landmarks = landmarks * np.float32(LOOK_SIZE / size)
    pictures = (cv2.resize(frame, (LOOK_SIZE, LOOK_SIZE), interpolation=cv2.INTER_LINEAR) for frame in frames)
    pose = poses_of_known(landmarks, face.rigid_points, face.rigid_weights, LOOK_SIZE, trust)
    skin = Skin(face.skin_points.astype(np.float64), face.skin_normals.astype(np.float64))
    texture = sample_texture(pictures, skin, pose.rotation, pose.translation, LOOK_SIZE)
    return align_texture([lambda: texture], landmarks, pose, trust, LOOK_SIZE, known=face.skin_texture)
