"""The 68-point landmark convention: MediaPipe's canonical face, point groups of both conventions, eye openness, face and lip boxes."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

# -------- MediaPipe's canonical face: the coordinate frame, mean shape and point numbering shared by all persons

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
    """The mesh of MediaPipe's face geometry module (Apache-2.0, see face/models/NOTICE).

    Returns:
      `vertices` [468, 3] in cm (x to the image's right for a frontal face, y up, z towards the camera), `uv` [468, 2] texture coordinates,
      `triangles` [898, 3] int32, and the rigid points the module aligns with: `procrustes_index` [33] int32, `procrustes_weight` [33].
    """
    with np.load(Path(__file__).parent / "face" / "canonical_face.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def mean_face() -> np.ndarray:
    """[68, 3] float32: the canonical face's 68 points in decimeters, from which motion is measured."""
    return (canonical_face()["vertices"][LANDMARKS_68] / 10.0).astype(np.float32)


def motion_from_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """[T, 68, 3] landmarks in the canonical frame (decimeters) -> motion: ten times the displacement from the mean face."""
    return (10.0 * (np.asarray(landmarks, np.float32) - mean_face())).astype(np.float32)


def landmarks_from_motion(motion: np.ndarray) -> np.ndarray:
    """Inverse of `motion_from_landmarks`; accepts [..., 204] or [..., 68, 3]."""
    motion = np.asarray(motion, np.float32)
    return (motion.reshape(*motion.shape[: -1 if motion.shape[-1] == 204 else -2], 68, 3) / 10.0 + mean_face()).astype(np.float32)


# -------- Point groups of MediaPipe's face mesh; eye openness and boxes measured from landmarks

FOREHEAD, CHIN = 10, 152
"""Topmost and lowest point of the face oval."""

# fmt: off
RIGID = np.array([
    10, 109, 338, 67, 297, 103, 332, 151, 108, 337, 69, 299, 9, 8,          # forehead and glabella
    168, 6, 197, 195, 5, 4, 1, 122, 351, 196, 419, 3, 248, 45, 275,         # nose ridge and its sides
    33, 133, 362, 263,                                                      # eye corners
    116, 345, 117, 346, 118, 347, 111, 340, 123, 352, 50, 280,              # cheek bones
    127, 356, 162, 389, 234, 454, 21, 251,                                  # temples
], dtype=np.int32)
"""Points that speech and blinks don't move: none on lids, brows, lips or jaw."""

RIGID_SKIN = np.array(sorted({*RIGID.tolist(),
    66, 107, 336, 296, 36, 266, 205, 425, 101, 330, 100, 329, 142, 371, 126, 355, 209, 429, 49, 279, 131, 360, 134, 363, 236, 456, 174, 399,
    217, 437, 198, 420, 188, 412, 114, 343, 47, 277, 128, 357, 121, 350, 120, 349, 119, 348, 187, 411, 147, 376, 177, 401, 137, 366, 227,
    447, 34, 264, 143, 372, 68, 298, 71, 301, 54, 284, 104, 333,
}), dtype=np.int32)
"""Vertices where the skin hardly moves against the skull: forehead, nose, upper cheeks."""

JAW_LINE = np.array([234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454], dtype=np.int32)
"""Lower half of the face oval, from the ear at the picture's left over the chin to the ear at the right."""

FACE_OVAL = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
], dtype=np.int32)
"""The outline of the face, once around (MediaPipe's FACE_OVAL)."""
# fmt: on


def eye_openness(points: np.ndarray) -> np.ndarray:
    """[T, 68, 2 or 3] points -> [T] eye aspect ratio (lid gap / eye width), mean of both eyes: about 0 closed, 0.3 to 0.4 open."""

    def ratio(first: int) -> np.ndarray:
        corner_a, upper_a, upper_b, corner_b, lower_b, lower_a = (points[:, first + k] for k in range(6))
        gap = np.linalg.norm(upper_a - lower_a, axis=-1) + np.linalg.norm(upper_b - lower_b, axis=-1)
        return gap / (2.0 * np.linalg.norm(corner_a - corner_b, axis=-1))

    return ((ratio(36) + ratio(42)) / 2.0).astype(np.float32)


def face_box(landmarks_2d: np.ndarray, size: int) -> np.ndarray:
    """[T, 68, 2] pixels -> [T, 4] int32 x0, y0, x1, y1 (exclusive), clipped to the picture; GeneFace's rule.

    The center is the middle of the x range at the height of point 27 (between the eyes); the half width is 1.5 times half the x range,
    the half height 1.15 times the vertical distance from point 27 to the chin.
    """
    x_low, x_high = landmarks_2d[..., 0].min(1), landmarks_2d[..., 0].max(1)
    half_width, half_height = 1.5 * (x_high - x_low) / 2.0, 1.15 * (landmarks_2d[:, 8, 1] - landmarks_2d[:, 27, 1])
    return _boxes((x_low + x_high) / 2.0, landmarks_2d[:, 27, 1], half_width, np.abs(half_height), size)


def lip_box(landmarks_2d: np.ndarray, size: int) -> np.ndarray:
    """Like `face_box`: a square around the outer lips (points 48-59) of 1.2 times their larger extent."""
    lips = landmarks_2d[:, 48:60]
    low, high = lips.min(1), lips.max(1)
    half = 1.2 * (high - low).max(1) / 2.0
    center = (low + high) / 2.0
    return _boxes(center[:, 0], center[:, 1], half, half, size)


def _boxes(x: np.ndarray, y: np.ndarray, half_width: np.ndarray, half_height: np.ndarray, size: int) -> np.ndarray:
    """Boxes around centers, at least 2 pixels wide and high even at the picture's border."""
    low = np.floor(np.stack([x - half_width, y - half_height], 1)).clip(0, size - 2)
    high = np.ceil(np.stack([x + half_width, y + half_height], 1)).clip(None, size)
    return np.concatenate([low, np.maximum(high, low + 2)], 1).astype(np.int32)


def pick_68(points: np.ndarray) -> np.ndarray:
    """[..., 478, C] MediaPipe landmarks -> [..., 68, C]."""
    return points[..., LANDMARKS_68, :]


@dataclasses.dataclass(frozen=True)
class KnownFace:
    """Face geometry of a person measured from a clip, used to pose other clips; float32, decimeters in the clip's head frame.

    Attributes:
      rigid_points, rigid_weights: [R, 3] and [R], the rigid landmarks (`RIGID`) and weights by their steadiness, mean 1.
      skin_points, skin_normals: [N, 3], points on the rigid skin (`face.align.skin_of`) and their unit normals.
      skin_texture: [N] gray levels at these points, mean over the training frames.
    """

    rigid_points: np.ndarray
    rigid_weights: np.ndarray
    skin_points: np.ndarray
    skin_normals: np.ndarray
    skin_texture: np.ndarray
