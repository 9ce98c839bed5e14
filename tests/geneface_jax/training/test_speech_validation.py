"""Metrics of predicted motion, and its distance from a person's distribution."""

import numpy as np
import pytest

from geneface_jax.training.speech_validation import MotionDistribution, frechet_distance, motion_metrics
from tests.synthetic_corpus import speech_and_motion

RNG = np.random.default_rng(0)


def test_metrics_ignore_the_face_and_see_the_mouth():
    truth = speech_and_motion(np.random.default_rng(0), 80)[2]
    report = motion_metrics([np.zeros_like(truth), truth + 3.0], [truth, truth])
    np.testing.assert_allclose(report["val/lmd_ratio"], 0.5, rtol=1e-4)
    # The mouth that stands still counts as uncorrelated.
    np.testing.assert_allclose(report["val/mouth_correlation"], 0.5, rtol=1e-4)


def test_diversity_tells_one_face_from_many():
    train = RNG.normal(size=(400, 204))
    domain = MotionDistribution.fit(train, RNG.normal(size=(100, 204)))
    many = [RNG.normal(size=(60 + i, 204)) for i in range(5)]
    assert domain.diversity(many) == pytest.approx(1.0, abs=0.1)
    assert domain.diversity([many[0]] * 5) == pytest.approx(0.0, abs=1e-9)
    assert domain.diversity([0.5 * motion for motion in many]) == pytest.approx(domain.diversity(many) / 4)


def test_frechet_distance_of_gaussians():
    a, b = np.diag([1.0, 4.0]), np.diag([9.0, 0.0])
    assert frechet_distance(np.zeros(2), a, np.zeros(2), a) == pytest.approx(0.0, abs=1e-9)
    # Of diagonal covariances: |m|^2 + sum (sqrt(a) - sqrt(b))^2.
    assert frechet_distance(np.array([3.0, 0.0]), a, np.zeros(2), b) == pytest.approx(9.0 + 4.0 + 4.0)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert frechet_distance(np.zeros(2), turn @ a @ turn.T, np.zeros(2), turn @ b @ turn.T) == pytest.approx(8.0)


def test_the_persons_own_frames_are_nearest():
    motion = speech_and_motion(RNG, 400)[2].reshape(400, 204)
    domain = MotionDistribution.fit(motion[:300], motion[300:])
    assert domain.basis.shape == (204, 32)
    assert domain.frechet([motion[:300]]) < domain.frechet([0.5 * motion[:300]]) < domain.frechet([motion[:300] + 2.0])
    assert MotionDistribution.fit(motion[:10], motion[10:20]).basis.shape == (204, 9)
