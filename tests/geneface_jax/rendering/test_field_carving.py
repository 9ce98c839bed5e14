"""Carving the occupancy grid by head masks and by the face's surface."""

import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.landmarks68 import mean_face
from geneface_jax.rendering.cameras import SCALE, project, scene_pose, to_scene
from geneface_jax.rendering.field import carve, in_front_of_face

INTRINSICS = np.array([580.0, 580.0, 64.0, 60.0])


def camera(yaw=0.2, pitch=-0.1):
    c2w = np.eye(4)
    c2w[:3, :3] = Rotation.from_euler("yx", [yaw, pitch]).as_matrix()
    c2w[:3, 3] = c2w[:3, :3] @ np.array([0.02, -0.01, 1.3])
    return c2w


def test_carving_keeps_the_head_and_drops_the_rest():
    mask = np.zeros((120, 128), np.uint8)
    row, column = np.mgrid[:120, :128]
    head = np.array([0.02, 0.0, 0.03])
    poses, masks = [], []
    for yaw in (-0.5, 0.0, 0.5):
        c2w = camera(yaw, 0.0)
        ((x, y),) = project(head[None], c2w[None], INTRINSICS)[0]
        masks.append((((column - x) ** 2 + (row - y) ** 2 < 20**2) * 255).astype(mask.dtype))
        poses.append(np.asarray(scene_pose(c2w)))
    kept = carve(np.stack(masks), np.stack(poses), INTRINSICS, 32, 1.0)
    scene = SCALE * head[[1, 2, 0]]
    assert kept[tuple(((scene + 1) / 2 * 32).astype(int))]
    assert not kept[0].any() and not kept[:, :, 0].any()
    assert 0.001 < kept.mean() < 0.2


def test_cells_in_front_of_the_face_are_found():
    face = to_scene(mean_face())
    front = in_front_of_face(face, 32, 1.0, margin=0.1)
    cell = lambda p: tuple(((np.asarray(p) + 1) / 2 * 32).astype(int))  # noqa: E731
    for point in face:
        assert not front[cell(point)], "the surface itself stays"
        assert front[cell(point + [0.0, 0.2, 0.0])]
