"""A second clip is posed in the first one's head frame: by the rigid shape, and by the skin where landmarks are off."""

import cv2
import numpy as np
import pytest

from data_tools.dataset.analyze import ANALYSIS_SIZE
from data_tools.face.align import TEXTURE_SIZE, known_face, mean_texture, pose_known, pose_state, sample_texture, skin_of
from data_tools.face.pose import poses_of_known, project, solve_poses
from tests.textured_clip import SIZE, clip_of_a_textured_plane

LATER = slice(25, 40)


@pytest.fixture(scope="module")
def first():
    """(frames, landmarks, poses, known face) of a clip."""
    frames, landmarks, *_ = clip_of_a_textured_plane(landmark_shake=0.1)
    pose = solve_poses(landmarks, SIZE)
    skin = skin_of(landmarks, pose, SIZE)
    pictures = (cv2.resize(frame, (TEXTURE_SIZE, TEXTURE_SIZE)) for frame in frames)
    texture = sample_texture(pictures, skin, pose.rotation, pose.translation, TEXTURE_SIZE)
    return frames, landmarks, pose, known_face(pose, skin, mean_texture([lambda: texture], pose_state(pose), np.ones(40), 36))


def test_what_is_kept_is_finite_and_of_single_precision(first):
    *_, face = first
    for name, array in vars(face).items():
        assert array.dtype == np.float32 and np.isfinite(array).all(), name
    assert len(face.skin_points) == len(face.skin_normals) == len(face.skin_texture) > 500


def test_points_that_were_never_seen_are_left_out(first):
    _, landmarks, pose, _ = first
    skin = skin_of(landmarks, pose, SIZE)
    texture = np.full(len(skin.points), 100.0)
    texture[3:] = np.nan
    assert known_face(pose, skin, texture).skin_points.shape == (3, 3)


def test_the_skin_corrects_landmarks_that_are_off(first):
    frames, landmarks, pose, face = first
    off = landmarks[LATER].copy()
    off[..., 1] += 1.0  # pixels, as a network may see a face in another pose
    trust = np.ones(15)
    wanted = project(pose.shape, pose.rotation[LATER], pose.translation[LATER], SIZE)

    def error(found):
        return np.abs(project(pose.shape, found.rotation, found.translation, SIZE) - wanted).mean()

    by_landmarks = poses_of_known(off, face.rigid_points, face.rigid_weights, SIZE, trust)
    by_skin = pose_known(face, off, frames[LATER], SIZE, trust)
    assert error(by_skin) < 0.5 * error(by_landmarks)


def test_the_texture_is_sampled_at_the_size_of_prepare():
    assert TEXTURE_SIZE == ANALYSIS_SIZE
