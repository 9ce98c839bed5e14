"""Corrections of cameras: rotations are rotations, small turns are felt, and the scene can't drift away with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from geneface_jax.rendering.cameras import pose_vector
from geneface_jax.training.field_base import SLOW, affine_basis, corrected, rotation, without_gauge


def some_poses(count, seed=0, amount=0.1):
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(amount * rng.normal(size=(count, 3))).as_matrix()
    poses[:, :3, 3] = [0.0, 5.0, 0.0] + amount * rng.normal(size=(count, 3))
    return poses


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3, 0.1, 1.0])
def test_rotation_vectors_become_rotations(scale):
    vectors = (scale * np.random.default_rng(1).normal(size=(5, 3))).astype(np.float32)
    np.testing.assert_allclose(rotation(jnp.asarray(vectors)), Rotation.from_rotvec(vectors).as_matrix(), atol=2e-6)


def test_the_gradient_at_zero_is_that_of_a_small_turn():
    jacobian = jax.jacobian(rotation)(jnp.zeros(3))
    expected = np.zeros((3, 3, 3))
    for i, j, k in ((2, 1, 0), (0, 2, 1), (1, 0, 2)):
        expected[i, j, k], expected[j, i, k] = 1.0, -1.0
    np.testing.assert_allclose(jacobian, expected, atol=1e-6)


def test_nothing_learnt_leaves_the_cameras_as_they_are():
    poses = some_poses(4)
    np.testing.assert_allclose(corrected(jnp.asarray(poses), jnp.zeros((4, 6))), poses, atol=1e-6)


def test_corrections_move_the_camera_about_the_head():
    poses = some_poses(1)
    turn = jnp.array([[0.0, 0.0, np.pi / 2, 0.0, 0.0, 0.5]], jnp.float32)
    moved = np.asarray(corrected(jnp.asarray(poses), turn))[0]
    x, y, z = poses[0, :3, 3]
    np.testing.assert_allclose(moved[:3, 3], [-y, x, z + 0.5], atol=1e-5)
    np.testing.assert_allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3), atol=1e-5)


def moving_head(count, jitter=0.0):
    """Poses of a head that turns and moves slowly, tracked with noise."""
    time = np.arange(count) / 25
    curves = np.stack([np.sin(time * (0.5 + 0.3 * k) + k) for k in range(6)], axis=-1) * 0.1
    noise = jitter * np.random.default_rng(5).normal(size=curves.shape)
    poses = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("XYZ", (curves + noise)[:, :3]).as_matrix()
    poses[:, :3, 3] = [0.0, 5.0, 0.0] + (curves + noise)[:, 3:]
    return poses, noise


def test_affine_parts_of_the_slow_poses_are_projected_out():
    poses, _ = moving_head(200)
    used = np.setdiff1d(np.arange(200), [3, 17])
    basis = jnp.asarray(affine_basis(poses, used))
    slow = ndimage.uniform_filter1d(np.asarray(pose_vector(jnp.asarray(poses))), SLOW, axis=0, mode="nearest")
    drift = (slow @ np.random.default_rng(2).normal(size=(6, 6)) + 0.3) * 0.1
    left = np.asarray(without_gauge(jnp.asarray(drift, jnp.float32), basis))
    np.testing.assert_allclose(left[used], 0.0, atol=2e-5)


@pytest.mark.parametrize("movement", [200, 30], ids=["a head that moves", "too short to move"])
def test_the_tracker_s_own_noise_can_be_corrected(movement):
    poses, noise = moving_head(movement, jitter=0.02)
    basis = jnp.asarray(affine_basis(poses, np.arange(movement)))
    kept = np.asarray(without_gauge(jnp.asarray(-noise, jnp.float32), basis))
    np.testing.assert_allclose(kept.mean(axis=0), 0.0, atol=1e-6)
    # 7 of the frames' values are fixed; what is lost of white noise is that share.
    assert np.linalg.norm(kept) > 0.95 * np.sqrt(1 - 7 / movement) * np.linalg.norm(noise)
    np.testing.assert_allclose(without_gauge(jnp.asarray(kept), basis), kept, atol=1e-6)


def test_a_head_that_never_moves_leaves_the_mean_alone():
    poses = np.tile(some_poses(1), (12, 1, 1))
    basis = affine_basis(poses, np.arange(12))
    assert np.linalg.matrix_rank(basis) == 1
    np.testing.assert_allclose(basis @ basis.T, np.full((12, 12), 1 / 12), atol=1e-6)
