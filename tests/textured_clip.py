"""A clip whose true poses are known: a face-sized textured plane that slides and turns."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.spatial.transform import Rotation

from data_tools.face.pose import intrinsics, project
from data_tools.landmarks68 import canonical_face

SIZE = 256


def clip_of_a_textured_plane(n_frames=40, landmark_shake=1.0):
    """A face-sized textured plane at the skin's depth that slides and turns in the picture's plane; landmarks shake by common jumps."""
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.normal(size=(512, 512)), 4.0)
    texture = 128.0 + 40.0 * texture / texture.std()
    roll = gaussian_filter1d(rng.normal(size=n_frames), 6.0) * 0.3
    shift = gaussian_filter1d(rng.normal(size=(n_frames, 2)), 6.0, axis=0) * 0.3
    rotation = Rotation.from_rotvec(np.stack([0 * roll, 0 * roll, roll], 1)).as_matrix()
    translation = np.concatenate([shift, np.full((n_frames, 1), -16.0)], 1)
    vertices = np.concatenate([canonical_face()["vertices"] / 10.0, np.zeros((10, 3))]).astype(np.float64)
    vertices[:, 2] *= 0.05
    pixels = project(vertices, rotation, translation, SIZE)
    focal, center = intrinsics(SIZE)["fx"], SIZE / 2.0
    v, u = np.mgrid[:SIZE, :SIZE]
    frames = []
    for r, t in zip(rotation, translation, strict=True):
        ray = np.stack([(u - center) / focal * 16.0, -(v - center) / focal * 16.0], -1) - t[:2]
        x, y = np.moveaxis(ray @ r[:2, :2], -1, 0)
        gray = map_coordinates(texture, [256 - y * 160, 256 + x * 160], order=1, mode="nearest")
        frames.append(np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, -1))
    landmarks = np.concatenate([pixels, np.zeros((n_frames, 478, 1))], -1)
    landmarks[..., :2] += landmark_shake * rng.normal(size=(n_frames, 1, 2))
    return frames, landmarks, rotation, translation
