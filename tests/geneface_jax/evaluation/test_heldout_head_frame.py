"""A clip whose head frame was turned, shifted and scaled comes back; one whose person is known is posed with the known shape."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.face.pose import intrinsics
from data_tools.landmarks68 import RIGID, KnownFace, canonical_face
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.heldout import in_head_frame_of
from geneface_jax.rendering.cameras import project
from tests.synthetic_subject import write_subject

SIZE = 256


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return Subject.load(write_subject(tmp_path_factory.mktemp("person") / "dataset", frames=11, size=16))


def test_another_gauge_comes_back(subject):
    scale, turn, shift = 1.02, Rotation.from_euler("xyz", [4.0, -7.0, 2.0], degrees=True).as_matrix(), np.array([0.1, -0.2, 0.3])
    landmarks = subject.mean_face + subject.motion / 10.0
    cameras = subject.cameras.copy()
    cameras[:, :3, :3] = turn @ cameras[:, :3, :3]
    cameras[:, :3, 3] = scale * cameras[:, :3, 3] @ turn.T + shift / 10.0
    other = dataclasses.replace(
        subject, motion=(10 * (scale * landmarks @ turn.T + shift - subject.mean_face)).astype(np.float32), cameras=cameras
    )
    back = in_head_frame_of(other, subject)
    np.testing.assert_allclose(back.motion, subject.motion, atol=1e-3)
    np.testing.assert_allclose(back.cameras, subject.cameras, atol=1e-4)


def test_the_picture_does_not_change(subject):
    moved = dataclasses.replace(subject, motion=(subject.motion * 1.01 + 0.3).astype(np.float32))
    back = in_head_frame_of(subject, moved)
    intrinsics = np.asarray(subject.intrinsics)
    before = project((subject.mean_face + subject.motion / 10) / 10, subject.cameras, intrinsics)
    after = project((back.mean_face + back.motion / 10) / 10, back.cameras, intrinsics)
    assert np.abs(back.motion - subject.motion).max() > 0.1
    np.testing.assert_allclose(after, before, atol=1e-2)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A person whose rigid points are the canonical face's, and a clip of eleven frames in which it looks ever further to the side."""
    subject = Subject.load(write_subject(tmp_path_factory.mktemp("large") / "dataset", frames=11, size=SIZE))
    points = np.concatenate([canonical_face()["vertices"], np.zeros((10, 3))]).astype(np.float64) / 100.0  # meters
    camera = intrinsics(SIZE)
    cameras = np.tile(np.eye(4), (11, 1, 1))
    cameras[:, :3, :3] = Rotation.from_euler("y", np.linspace(5, 15, 11)[:, None], degrees=True).as_matrix()
    cameras[:, :3, 3] = cameras[:, :3, 2] * 1.8
    pixels = project(points, cameras, np.array([camera[name] for name in ("fx", "fy", "cx", "cy")]))
    z = np.einsum("pk,tk->tp", points, -cameras[:, :3, 2]) * camera["fx"] / 1.8
    landmarks = np.concatenate([pixels, z[..., None]], axis=-1).astype(np.float32)
    # The pictures show no skin: every point of it looks away from the camera.
    skin = np.zeros((2, 3), np.float32), np.tile(np.float32([0, 0, -1]), (2, 1)), np.full(2, 100.0, np.float32)
    face = KnownFace(10.0 * points[RIGID].astype(np.float32), np.ones(len(RIGID), np.float32), *skin)
    return dataclasses.replace(subject, known_face=face), dataclasses.replace(subject, landmarks_mediapipe=landmarks), cameras


def test_a_known_person_is_posed_again(known):
    reference, clip, cameras = known
    back = in_head_frame_of(clip, reference)
    np.testing.assert_allclose(back.cameras[:, :3, :3], cameras[:, :3, :3], atol=2e-3)
    np.testing.assert_allclose(back.cameras[:, :3, 3], cameras[:, :3, 3], atol=5e-3)
    np.testing.assert_allclose(back.motion, 0.0, atol=0.02)  # the canonical face, which does nothing


def test_a_frame_without_a_face_follows_its_neighbors(known):
    reference, clip, cameras = known
    landmarks, lost = clip.landmarks_mediapipe.copy(), np.arange(11) == 5
    landmarks[5, :, :2] += 3.0
    back = in_head_frame_of(dataclasses.replace(clip, landmarks_mediapipe=landmarks, interpolated=lost), reference)
    np.testing.assert_allclose(back.cameras[:, :3, 3], cameras[:, :3, 3], atol=1e-2)


def test_other_face_models_and_older_datasets_are_moved_over(known):
    reference, clip, _ = known
    for other in (dataclasses.replace(reference, known_face=None), dataclasses.replace(reference, face_model="bfm")):
        np.testing.assert_allclose(in_head_frame_of(clip, other).cameras, clip.cameras, atol=1e-5)
