"""Conditions of the torso in each frame."""

import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.landmarks68 import mean_face
from geneface_jax.rendering.cameras import pose_vector, project, scene_pose
from geneface_jax.rendering.field import JAW, JAW_WINDOW, jaw_points, torso_conditions

FRAMES, SIZE = 20, 64
INTRINSICS = np.array([290.0, 290.0, 32.0, 32.0])


@pytest.fixture
def track():
    rng = np.random.default_rng(0)
    cameras = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    cameras[:, 2, 3] = 1.3
    cameras[:, 0, 3] = 0.02 * np.sin(np.arange(FRAMES) / 4.0)
    return cameras, rng.normal(size=(FRAMES, 68, 3)).astype(np.float32) * 0.05


def test_the_jaw_is_where_the_camera_sees_it(track):
    cameras, motion = track
    still = np.zeros_like(motion)
    found = jaw_points(np.repeat(cameras[:1], FRAMES, 0), still, mean_face(), INTRINSICS, SIZE).reshape(FRAMES, -1, 2)
    seen = project(mean_face() / 10.0, cameras[:1], INTRINSICS)[0, JAW] / SIZE
    np.testing.assert_allclose(found, np.broadcast_to(seen, found.shape), atol=1e-6)
    chin = found[0, 3]
    assert chin[1] > found[0, 0, 1], "y runs down, and the chin is the lowest point"


def test_a_raised_chin_raises_its_point(track):
    cameras, motion = track
    low, high = np.zeros_like(motion), np.zeros_like(motion)
    high[:, 8, 1] = 1.0
    move = jaw_points(cameras, high, mean_face(), INTRINSICS, SIZE) - jaw_points(cameras, low, mean_face(), INTRINSICS, SIZE)
    move = move.reshape(FRAMES, -1, 2)
    assert (move[:, 3, 1] < -1e-3).all() and np.abs(np.delete(move, 3, axis=1)).max() == 0.0


def test_smoothing_removes_noise_and_keeps_the_path(track):
    cameras, motion = track
    points = jaw_points(cameras, motion, mean_face(), INTRINSICS, SIZE)
    smooth = jaw_points(cameras, np.zeros_like(motion), mean_face(), INTRINSICS, SIZE)
    noise = np.abs(np.diff(points - smooth, axis=0)).mean()
    raw = project((mean_face() + motion / 10.0)[:, JAW] / 10.0, cameras, INTRINSICS).reshape(FRAMES, -1) / SIZE
    exact = project(np.broadcast_to(mean_face() / 10.0, motion.shape)[:, JAW], cameras, INTRINSICS).reshape(FRAMES, -1) / SIZE
    assert noise < 3.0 / JAW_WINDOW * np.abs(np.diff(raw - exact, axis=0)).mean()
    assert np.abs(points - exact)[JAW_WINDOW:-JAW_WINDOW].max() < 0.01


def test_resolution_does_not_matter_and_one_frame_is_enough(track):
    cameras, motion = track
    twice = jaw_points(cameras, motion, mean_face(), 2 * INTRINSICS, 2 * SIZE)
    np.testing.assert_allclose(twice, jaw_points(cameras, motion, mean_face(), INTRINSICS, SIZE), atol=1e-6)
    assert jaw_points(cameras[:1], motion[:1], mean_face(), INTRINSICS, SIZE).shape == (1, 14)


def test_conditions_by_name(track):
    cameras, motion = track
    arguments = cameras, motion, mean_face(), INTRINSICS, SIZE
    np.testing.assert_array_equal(torso_conditions("pose", *arguments), pose_vector(scene_pose(jnp.asarray(cameras))))
    np.testing.assert_array_equal(torso_conditions("jaw", *arguments), jaw_points(*arguments))
    with pytest.raises(ValueError, match="pose, jaw"):
        torso_conditions("chin", *arguments)
