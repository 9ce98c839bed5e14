import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from data_tools.face.pose import (
    PoseSettings,
    camera_matrices,
    canonical_landmarks,
    intrinsics,
    jitter,
    poses_of_known,
    project,
    similarity,
    solve_poses,
)
from data_tools.landmarks68 import RIGID, canonical_face

SIZE = 512


def head_movement(n_frames=60, seed=0):
    """Smooth poses of a head that looks about, in the solver's convention."""
    rng = np.random.default_rng(seed)
    turn = gaussian_filter1d(rng.normal(size=(n_frames, 3)), 8.0, axis=0) * 0.5
    shift = gaussian_filter1d(rng.normal(size=(n_frames, 3)), 8.0, axis=0) * 0.3 + [0.1, -0.1, -16.0]
    return Rotation.from_rotvec(turn).as_matrix(), shift


def seen_landmarks(rotation, translation, person=0.0, noise=0.0, seed=1):
    """[T, 478, 3] landmarks of a face whose shape differs from the canonical one by `person` dm, MediaPipe's z included."""
    rng = np.random.default_rng(seed)
    vertices = canonical_face()["vertices"].astype(np.float64) / 10.0
    vertices = vertices + person * rng.normal(size=vertices.shape)
    vertices = np.concatenate([vertices, np.zeros((10, 3))])
    pixels = project(vertices, rotation, translation, SIZE)
    depth = -(vertices @ rotation.transpose(0, 2, 1) + translation[:, None])[..., 2]
    z = (depth - depth.mean(1, keepdims=True)) * intrinsics(SIZE)["fx"] / 16.0
    return np.concatenate([pixels + noise * rng.normal(size=pixels.shape), z[..., None]], -1), vertices


def angle(a, b):
    return np.degrees(np.linalg.norm(Rotation.from_matrix(a @ b.transpose(0, 2, 1)).as_rotvec(), axis=-1))


def test_exact_landmarks_give_back_the_poses():
    rotation, translation = head_movement()
    landmarks, _ = seen_landmarks(rotation, translation)
    pose = solve_poses(landmarks, SIZE, settings=PoseSettings(turn_sigma=0.0))
    assert angle(pose.rotation, rotation).max() < 0.3
    assert np.abs(pose.translation - translation)[:, :2].max() < 0.01
    assert pose.error.max() < 0.05


def test_another_face_is_fitted_with_its_own_shape():
    rotation, translation = head_movement(120)
    landmarks, vertices = seen_landmarks(rotation, translation, person=0.03)
    pose = solve_poses(landmarks, SIZE)
    canonical_misfit = np.linalg.norm(vertices[RIGID] - canonical_face()["vertices"][RIGID] / 10.0, axis=1).mean()
    scale, turn, shift = similarity(pose.shape, vertices[RIGID])
    misfit = np.linalg.norm(scale * pose.shape @ turn.T + shift - vertices[RIGID], axis=1).mean()
    assert misfit < 0.25 * canonical_misfit
    assert pose.error.mean() < 0.5


def test_smoothing_lowers_jitter_and_error_without_lag():
    rotation, translation = head_movement(150)
    clean, _ = seen_landmarks(rotation, translation)
    # The network's error is common to all points of a frame: a jump of the whole face.
    shake = np.random.default_rng(3).normal(size=(150, 1, 2)) * 0.5
    landmarks = clean.copy()
    landmarks[..., :2] += shake
    pose = solve_poses(landmarks, SIZE)
    before = jitter(pose.unsmoothed_rotation, pose.unsmoothed_translation, pose.shape, SIZE)
    after = jitter(pose.rotation, pose.translation, pose.shape, SIZE)
    assert after < 0.6 * before
    true = project(pose.shape, rotation, translation, SIZE)
    error = [np.abs(project(pose.shape, r, t, SIZE) - true).mean() for r, t in
             ((pose.rotation, pose.translation), (pose.unsmoothed_rotation, pose.unsmoothed_translation))]  # fmt: skip
    assert error[0] < 0.8 * error[1]
    x, true_x = (p - p.mean() for p in (pose.translation[:, 0], translation[:, 0]))
    by_lag = [np.dot(x[5:-5], np.roll(true_x, lag)[5:-5]) for lag in (-1, 0, 1)]
    assert np.argmax(by_lag) == 1


def test_distrusted_frames_follow_their_neighbors():
    rotation, translation = head_movement()
    landmarks, _ = seen_landmarks(rotation, translation)
    landmarks[30:34, :, :2] += 25.0
    trust = np.ones(60)
    trust[30:34] = 0.0
    pose = solve_poses(landmarks, SIZE, trust)
    assert np.abs(pose.translation[30:34, :2] - translation[30:34, :2]).max() < 0.02


def test_a_known_person_is_posed_in_the_frame_of_the_other_clip():
    """The clip is short, turned to one side, and its depths are flattened: a shape of its own would be turned against the other's."""
    rotation, translation = head_movement(120)
    landmarks, _ = seen_landmarks(rotation, translation, person=0.03)
    other = solve_poses(landmarks, SIZE)
    frame = Rotation.from_matrix(other.rotation.transpose(0, 2, 1) @ rotation).mean().as_matrix()
    aside = Rotation.from_euler("y", np.linspace(10, 14, 30)[:, None], degrees=True).as_matrix()
    short, _ = seen_landmarks(aside, translation[:30], person=0.03)
    short[..., 2] *= 0.6
    pose = poses_of_known(short, other.shape, other.weights, SIZE)
    wanted = aside @ frame.T
    assert angle(pose.rotation, wanted).max() < 0.3
    assert angle(solve_poses(short, SIZE).rotation, wanted).mean() > 2 * angle(pose.rotation, wanted).mean()


def test_cameras_see_the_world_as_the_poses_do():
    rotation, translation = head_movement(5)
    cameras = camera_matrices(rotation, translation)
    point = np.array([0.3, -0.2, 0.5])
    expected = project(point[None], rotation, translation, SIZE)[:, 0]
    in_camera = np.einsum("tij,j->ti", np.linalg.inv(cameras.astype(np.float64)), np.append(point / 10.0, 1.0))[:, :3]
    k = intrinsics(SIZE)
    seen = np.stack([k["cx"] - k["fx"] * in_camera[:, 0] / in_camera[:, 2], k["cy"] + k["fy"] * in_camera[:, 1] / in_camera[:, 2]], -1)
    np.testing.assert_allclose(seen, expected, atol=0.01)
    assert (cameras[:, 2, 3] > 1.0).all(), "the camera stands more than a metre in front of the face"


def test_intrinsics_are_those_of_geneface():
    assert intrinsics(224) == {"fx": 1015.0, "fy": 1015.0, "cx": 112.0, "cy": 112.0}


@pytest.mark.parametrize("person", [0.0, 0.02])
def test_motion_is_free_of_the_head_pose(person):
    rotation, translation = head_movement(100)
    landmarks, _ = seen_landmarks(rotation, translation, person=person)
    pose = solve_poses(landmarks, SIZE)
    points = canonical_landmarks(landmarks, pose, SIZE)
    assert points.shape == (100, 68, 3)
    assert points.std(0).max() < 0.02, "a face that does nothing has no motion"
