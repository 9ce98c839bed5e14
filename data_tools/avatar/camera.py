"""Head pose and camera of the avatar: where the head is in front of a fixed camera, and the truth in the file format's convention.

Camera axes are OpenGL's (x right, y up, looking along -z), in cm. A head point p in the canonical head frame is seen at
x = R (p - PIVOT) + PIVOT + sway + OFFSET; the file format's camera-to-world matrix is the inverse of that, in metres.
"""

from __future__ import annotations

import numpy as np

from data_tools.avatar.behaviour import Behaviour

FOCAL = 1015.0 / 112.0 / 2.0
"""Focal length in picture widths: 1015 px for the 224 px pictures of the 3D face models that GeneFace uses."""

PIVOT = np.array([0.0, -7.5, -5.5])
"""The head turns about the top of the neck."""

OFFSET = np.array([0.0, 1.2, -182.0])
"""Head and hair are 56 % of the picture's height at this distance."""


def intrinsics(size: int) -> dict[str, float]:
    """fx, fy, cx, cy in pixels of a picture of `size` x `size`."""
    return {"fx": FOCAL * size, "fy": FOCAL * size, "cx": size / 2.0, "cy": size / 2.0}


def head_rotations(angles: np.ndarray) -> np.ndarray:
    """[T, 3] (yaw, pitch, roll) radians -> [T, 3, 3]: yaw > 0 turns the face to the image's right, pitch > 0 down."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(angles).T, np.cos(angles).T
    zero, one = np.zeros_like(sy), np.ones_like(sy)

    def stack(*rows: list) -> np.ndarray:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    yaw = stack([cy, zero, sy], [zero, one, zero], [-sy, zero, cy])
    pitch = stack([one, zero, zero], [zero, cp, -sp], [zero, sp, cp])
    roll = stack([cr, -sr, zero], [sr, cr, zero], [zero, zero, one])
    return yaw @ pitch @ roll


def head_to_camera(behaviour: Behaviour) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [T, 3, 3] and translations [T, 3] cm of the head."""
    rotations = head_rotations(behaviour.angles)
    return rotations, PIVOT - rotations @ PIVOT + behaviour.sway + OFFSET


def camera_matrices(behaviour: Behaviour) -> np.ndarray:
    """[T, 4, 4] float32 camera to world (= canonical head frame), metres, as docs/file-formats.md defines."""
    rotations, translations = head_to_camera(behaviour)
    matrices = np.zeros((len(rotations), 4, 4))
    inverse = rotations.transpose(0, 2, 1)
    matrices[:, :3, :3] = inverse
    matrices[:, :3, 3] = -np.einsum("tij,tj->ti", inverse, translations) / 100.0
    matrices[:, 3, 3] = 1.0
    return matrices.astype(np.float32)


def project(points: np.ndarray, size: int) -> np.ndarray:
    """Camera-frame points [..., 3] cm -> pixels [..., 2] (x right, y down; the first pixel's centre is at 0.5)."""
    depth = -points[..., 2]
    x = FOCAL * size * points[..., 0] / depth + size / 2.0
    y = size / 2.0 - FOCAL * size * points[..., 1] / depth
    return np.stack([x, y], axis=-1)
