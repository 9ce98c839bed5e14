"""The pose report knows a head that turns smoothly and landmarks that tremble."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.face import pose as face_pose
from data_tools.landmarks68 import canonical_face
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.scores import smoothing_report
from tests.synthetic_subject import write_subject

FRAMES, SIZE = 44, 256


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A canonical face whose landmarks carry a pixel of noise, with the cameras that prepare would store."""
    loaded = Subject.load(write_subject(tmp_path_factory.mktemp("person") / "dataset", frames=FRAMES, size=32))
    t = np.arange(FRAMES) / 10.0
    rotation = Rotation.from_euler("yx", np.stack([0.15 * np.sin(t), 0.05 * np.cos(t)], -1)).as_matrix()
    translation = np.stack([0.1 * np.sin(t), 0 * t, -16.0 + 0 * t], -1)
    vertices = canonical_face()["vertices"] / 10.0
    points = np.concatenate([vertices, vertices[:10]])
    pixels = face_pose.project(points, rotation, translation, SIZE)
    depth = -(np.einsum("tij,pj->tpi", rotation, points) + translation[:, None])[..., 2:]
    z = (depth - depth.mean(1, keepdims=True)) * face_pose.intrinsics(SIZE)["fx"] / 16.0
    noise = np.random.default_rng(0).normal(0, 1.0, pixels.shape)
    landmarks = np.concatenate([pixels + noise, z], -1).astype(np.float32)
    fitted = face_pose.solve_poses(landmarks, SIZE)
    cameras = face_pose.camera_matrices(fitted.rotation, fitted.translation)
    return dataclasses.replace(loaded, landmarks_mediapipe=landmarks, size=SIZE, cameras=cameras)


def test_smoothing_lowers_every_figure(subject):
    found = smoothing_report(subject)
    assert all(found["after"][name] < 0.7 * value for name, value in found["before"].items())
    assert 0 < found["after"]["pixels"] < 0.5 and 0 < found["after"]["rotation_degrees"] < 1


def test_pixels_agree_with_the_dataset_report(subject):
    fitted = face_pose.solve_poses(subject.landmarks_mediapipe, SIZE)
    wanted = face_pose.jitter(fitted.rotation, fitted.translation, fitted.shape, SIZE)
    # That figure is per coordinate, this one a distance.
    assert wanted < smoothing_report(subject)["after"]["pixels"] < 2 * wanted
