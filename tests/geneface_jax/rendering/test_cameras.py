"""Cameras: a ray through the pixel where a point projects passes through the point."""

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.landmarks68 import mean_face
from geneface_jax.rendering.cameras import SCALE, image_coords, pixel_rays, pose_vector, project, scene_pose, to_scene
from geneface_jax.rendering.field import carve, in_front_of_face

INTRINSICS = np.array([580.0, 580.0, 64.0, 60.0])


def camera(yaw=0.2, pitch=-0.1):
    c2w = np.eye(4)
    c2w[:3, :3] = Rotation.from_euler("yx", [yaw, pitch]).as_matrix()
    c2w[:3, 3] = c2w[:3, :3] @ np.array([0.02, -0.01, 1.3])
    return c2w


def test_rays_pass_through_projected_points():
    c2w = camera()
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (20, 3))
    pixels = project(points, c2w[None], INTRINSICS)[0]
    pose = scene_pose(c2w)
    o, d = pixel_rays(pose, jnp.asarray(INTRINSICS, jnp.float32), jnp.asarray(pixels[:, 1] - 0.5), jnp.asarray(pixels[:, 0] - 0.5))
    scene = SCALE * points[:, [1, 2, 0]]
    along = np.sum((scene - o) * d, axis=1, keepdims=True)
    np.testing.assert_allclose(o + along * d, scene, atol=2e-4)
    assert (along > 0).all()
    np.testing.assert_allclose(np.linalg.norm(d, axis=1), 1.0, atol=1e-6)


def test_pose_vector_tells_poses_apart_and_rebuilds_the_rotation():
    pose = scene_pose(camera())
    angles = np.asarray(pose_vector(pose))[:3]
    np.testing.assert_allclose(Rotation.from_euler("XYZ", angles).as_matrix(), pose[:3, :3], atol=1e-5)


def test_image_coords_are_rows_then_columns():
    coords = image_coords(3, 5).reshape(3, 5, 2)
    np.testing.assert_allclose(coords[0, 4], [-1.0, 1.0])
    np.testing.assert_allclose(coords[2, 0], [1.0, -1.0])


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


def test_cells_in_front_of_the_face_are_known():
    face = to_scene(mean_face())
    front = in_front_of_face(face, 32, 1.0, margin=0.1)
    cell = lambda p: tuple(((np.asarray(p) + 1) / 2 * 32).astype(int))  # noqa: E731
    for point in face:
        assert not front[cell(point)], "the surface itself stays"
        assert front[cell(point + [0.0, 0.2, 0.0])]
