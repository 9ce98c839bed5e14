"""MediaPipe's canonical face: the shared frame, mean shape and point numbering of every person.

`canonical_face.npz` holds the mesh of MediaPipe's face geometry module (Apache-2.0, see models/NOTICE): 468 vertices in centimetres (x to
the image's right for a frontal face, y up, z towards the camera), texture coordinates, 898 triangles, and the rigid points that module
aligns with.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

# fmt: off
LANDMARKS_68 = np.array([
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,  # jaw 0-16
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,                                      # brows 17-26
    168, 197, 5, 4, 75, 97, 2, 326, 305,                                                # nose 27-35
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,                          # eyes 36-47
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91,                                 # outer lips 48-59
    78, 81, 13, 311, 308, 402, 14, 178,                                                 # inner lips 60-67
], dtype=np.int32)
# fmt: on
"""MediaPipe vertex of each point of the 68-point convention (the table of GeneFace++)."""

JAW, BROWS, NOSE, EYES, MOUTH = slice(0, 17), slice(17, 27), slice(27, 36), slice(36, 48), slice(48, 68)
"""Groups of the 68 points."""


@functools.cache
def canonical_face() -> dict[str, np.ndarray]:
    """Returns `vertices` [468, 3] cm, `uv` [468, 2], `triangles` [898, 3] int32, `procrustes_index` [33] int32, `procrustes_weight`
    [33]."""
    with np.load(Path(__file__).with_name("canonical_face.npz"), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def mean_face() -> np.ndarray:
    """[68, 3] float32: the canonical face's 68 points in decimetres, from which motion is measured."""
    return (canonical_face()["vertices"][LANDMARKS_68] / 10.0).astype(np.float32)


def motion_from_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """[T, 68, 3] landmarks in the canonical frame (decimetres) -> motion, ten times the displacement from the mean face."""
    return (10.0 * (np.asarray(landmarks, np.float32) - mean_face())).astype(np.float32)


def landmarks_from_motion(motion: np.ndarray) -> np.ndarray:
    """Inverse of `motion_from_landmarks`; accepts [..., 204] or [..., 68, 3]."""
    motion = np.asarray(motion, np.float32)
    return (motion.reshape(*motion.shape[: -1 if motion.shape[-1] == 204 else -2], 68, 3) / 10.0 + mean_face()).astype(np.float32)
