"""Pose tracks: endless without jumps, smoothed as scipy would."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.errors import InputError
from geneface_jax.inference.motion import mirrored_indices, orbit, pose_track, smooth_cameras, track_indices


def cameras(n, seed=0):
    rng = np.random.default_rng(seed)
    out = np.tile(np.eye(4, dtype=np.float32), (n, 1, 1))
    out[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.3, (n, 3))).as_matrix()
    out[:, :3, 3] = rng.normal(0, 1, (n, 3))
    return out


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_the_loop_covers_all_frames_and_never_jumps(length):
    indices = mirrored_indices(length, 5 * length + 3)
    assert set(indices) == set(range(length))
    steps = np.abs(np.diff(indices))
    assert (steps == (1 if length > 1 else 0)).all()
    np.testing.assert_array_equal(indices[:length], np.arange(length))


def test_a_range_stays_inside_and_is_checked():
    track = track_indices(cameras(20), 50, "5-9")
    assert set(track) == {5, 6, 7, 8} and track[0] == 5
    with pytest.raises(InputError, match="20 frames"):
        track_indices(cameras(20), 50, "5-21")


def test_still_takes_the_most_typical_frame():
    path = cameras(9)
    path[4, :3, :3] = Rotation.from_matrix(path[:, :3, :3]).mean().as_matrix()
    path[4, :3, 3] = path[:, :3, 3].mean(0)
    assert (track_indices(path, 3, "still") == 4).all()
    np.testing.assert_allclose(pose_track(path, 3, "still"), path[[4, 4, 4]], atol=1e-6)


def test_smoothing_is_scipys_mean_rotation_and_the_mean_translation():
    path, window = cameras(12), 7
    smooth = smooth_cameras(path, window)
    for t in range(12):
        around = np.clip(np.arange(t - 3, t + 4), 0, 11)
        np.testing.assert_allclose(smooth[t, :3, :3], Rotation.from_matrix(path[around, :3, :3]).mean().as_matrix(), atol=1e-5)
        np.testing.assert_allclose(smooth[t, :3, 3], path[around, :3, 3].mean(0), atol=1e-5)


def test_smoothing_gives_rotations_keeps_still_paths_and_window_one():
    smooth = smooth_cameras(cameras(30))
    np.testing.assert_allclose(smooth[:, :3, :3] @ smooth[:, :3, :3].transpose(0, 2, 1), np.broadcast_to(np.eye(3), (30, 3, 3)), atol=1e-5)
    assert (np.linalg.det(smooth[:, :3, :3]) > 0.99).all()
    np.testing.assert_array_equal(smooth_cameras(cameras(5), 1), cameras(5))
    still = np.repeat(cameras(1), 9, axis=0)
    np.testing.assert_allclose(smooth_cameras(still), still, atol=1e-6)
    with pytest.raises(ValueError, match="odd"):
        smooth_cameras(still, 4)


def test_audio_longer_than_the_video_gets_a_pose_for_every_frame():
    path = cameras(8)
    track = pose_track(path, 100, "video", smooth=1)
    assert track.shape == (100, 4, 4) and track.dtype == path.dtype
    np.testing.assert_array_equal(track[:8], path)
    np.testing.assert_array_equal(track[14:22], path)


def test_the_orbit_swings_to_both_sides_and_keeps_the_head_in_its_place():
    """A camera 1.5 m in front, a little to the side: the origin stays in its pixel and at its distance, the angle goes to +-20 degrees."""
    still = np.tile(np.eye(4, dtype=np.float32), (100, 1, 1))
    still[:, :3, 3] = 0.05, 0.02, 1.5
    swung = orbit(still, 20.0)
    angle = np.degrees(np.arctan2(swung[:, 0, 2], swung[:, 2, 2]))
    assert angle.max() == pytest.approx(20, abs=0.1) and angle.min() == pytest.approx(-20, abs=0.1) and angle[25] > 19
    assert np.abs(np.diff(angle)).max() < 20 * 2 * np.pi / 100 * 1.01, "no jumps"
    seen = [np.linalg.inv(camera)[:3, 3] for camera in (*still[:1], *swung)]
    np.testing.assert_allclose(seen, np.tile(seen[0], (101, 1)), atol=1e-6)
    np.testing.assert_array_equal(swung[0], still[0])
    assert swung[25, 0, 3] > 0.4, "to the picture's right first"
    np.testing.assert_array_equal(orbit(still, 0.0), still)
