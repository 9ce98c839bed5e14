"""Rays of the vanilla NeRF agree with the projection of the dataset's cameras."""

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from geneface_jax.rendering.cameras import camera_angles, camera_rays, project


def camera(angles=(0.1, -0.2, 0.05), translation=(0.03, -0.02, 1.8)):
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    pose[:3, 3] = translation
    return pose


def test_points_of_a_ray_are_seen_where_it_came_from():
    intrinsics = np.array([900.0, 900.0, 64.0, 60.0])
    rows, columns = np.array([0, 30, 127]), np.array([5, 64, 90])
    origins, directions = camera_rays(jnp.asarray(camera()), jnp.asarray(intrinsics), rows, columns, 0.5)
    points = np.asarray(origins) + 1.7 * np.asarray(directions)
    seen = project(points, camera()[None], intrinsics)[0]
    np.testing.assert_allclose(seen, np.stack([columns + 0.5, rows + 0.5], axis=-1), atol=1e-2)


def test_the_parameter_is_depth():
    _, directions = camera_rays(jnp.asarray(camera()), jnp.array([900.0, 900.0, 64.0, 64.0]), jnp.arange(128), jnp.arange(128), 0.0)
    np.testing.assert_allclose(np.asarray(directions) @ -camera()[:3, 2], 1.0, atol=1e-6)


def test_angles_are_scipys_extrinsic_xyz():
    rng = np.random.default_rng(0)
    angles = rng.uniform(-0.6, 0.6, (7, 3))
    cameras = np.stack([camera(a) for a in angles])
    np.testing.assert_allclose(np.asarray(camera_angles(jnp.asarray(cameras))), angles, atol=1e-5)
