"""Head movement is lively and smooth, blinks come at a human rate, and the cameras say exactly where the pixels are."""

from __future__ import annotations

import numpy as np

from data_tools.avatar.clip import truth_arrays
from data_tools.avatar.performance import make_head_motion, perform
from data_tools.avatar.render import camera_matrices, intrinsics
from data_tools.avatar.speakers import excerpt, recording
from data_tools.landmarks68 import landmarks_from_motion


def test_head_movement_is_lively_and_smooth():
    angles = np.rad2deg(make_head_motion(3000, seed=3).angles)
    assert angles[:, 0].std() >= 4.0 and angles[:, 1].std() >= 2.0
    assert np.abs(angles).max() < 25.0
    assert np.abs(np.diff(angles, axis=0)).max() < 3.0  # degrees a frame
    assert np.abs(np.diff(angles, 2, axis=0)).mean() < 0.1


def test_the_demo_persons_minute_is_lively_too():
    yaw, pitch, _ = np.rad2deg(perform(recording("demo")).head_motion.angles.std(axis=0))
    assert yaw >= 4.0 and pitch >= 2.0


def test_blinks_a_minute_and_full_closure():
    counts = []
    for seed in range(6):
        blink = make_head_motion(1500, seed).blink
        starts = np.flatnonzero(np.diff((blink > 0.5).astype(int)) == 1)
        counts.append(len(starts))
        assert all(blink[s : s + 6].max() > 0.85 for s in starts)
        assert np.median(blink) == 0.0
    assert 10 <= np.mean(counts) <= 20


def test_the_seed_decides():
    one, same, other = make_head_motion(100, 1), make_head_motion(100, 1), make_head_motion(100, 2)
    np.testing.assert_array_equal(one.angles, same.angles)
    assert np.abs(one.angles - other.angles).max() > 0.01


def test_a_short_clip_is_the_beginning_of_the_long_one():
    np.testing.assert_allclose(make_head_motion(60, 5).angles, make_head_motion(600, 5).angles[:60])


def test_cameras_are_rigid_and_in_meters():
    cameras = camera_matrices(make_head_motion(50, 0)).astype(np.float64)
    rotation = cameras[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)
    assert np.all((1.7 < cameras[:, 2, 3]) & (cameras[:, 2, 3] < 2.1))


def test_motion_and_camera_reproduce_the_pixels():
    """The convention of docs/file-formats.md, implemented independently: decimeters, OpenGL camera to world, pinhole."""
    size = 256
    truth = truth_arrays(perform(excerpt(recording("hao"), 1.0, 2.0)), size)
    points = landmarks_from_motion(truth["motion"]).astype(np.float64) / 10.0  # meters
    world_to_camera = np.linalg.inv(truth["cameras"].astype(np.float64))
    seen = np.einsum("tij,tvj->tvi", world_to_camera[:, :3, :3], points) + world_to_camera[:, None, :3, 3]
    k = intrinsics(size)
    assert k["fx"] == k["fy"] == 1015 / 112 * size / 2
    x = k["cx"] + k["fx"] * seen[..., 0] / -seen[..., 2]
    y = k["cy"] - k["fy"] * seen[..., 1] / -seen[..., 2]
    np.testing.assert_allclose(np.stack([x, y], -1), truth["landmarks_2d"], atol=0.02)


def test_turning_the_head_is_what_the_angles_say():
    truth = truth_arrays(perform(recording("demo")), 256)
    nose = truth["landmarks_2d"][:, 30, 0] - truth["landmarks_2d"][:, [0, 16], 0].mean(axis=1)
    assert np.corrcoef(nose, truth["angles"][:, 0])[0, 1] > 0.95
