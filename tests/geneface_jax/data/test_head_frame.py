"""A clip whose head frame was turned, shifted and scaled comes back."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geneface_jax.data.head_frame import in_head_frame_of
from geneface_jax.data.subject import Subject
from geneface_jax.rendering.cameras import project
from tests.synthetic_subject import write_subject


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
