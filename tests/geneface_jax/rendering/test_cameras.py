"""Cameras: a ray through the pixel where a point projects passes through the point."""

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from geneface_jax.rendering.cameras import SCALE, image_coords, pixel_rays, pose_vector, project, scene_pose

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
