"""Motion metrics with known answers."""

import numpy as np
import pytest

from geneface_jax.data.motion import lip_distance, motion_lmd, mouth_opening, pearson
from geneface_jax.evaluation.metrics import from_mediapipe

RNG = np.random.default_rng(0)


def test_mouth_opening_is_a_ratio():
    points = np.zeros((68, 2))
    points[48], points[54], points[62], points[66] = [10, 0], [50, 0], [30, -4], [30, 6]
    assert mouth_opening(points) == pytest.approx(0.25)
    assert mouth_opening(7 * points) == pytest.approx(0.25)
    numbered = from_mediapipe(np.arange(478)[:, None])
    assert numbered[[62, 66, 48, 54], 0].tolist() == [13, 14, 61, 291]


def test_lip_distance_is_linear_and_grows_as_the_lower_lip_drops():
    motion = np.zeros((5, 68, 3))
    motion[:, [65, 66, 67], 1] = -np.arange(5.0)[:, None]
    np.testing.assert_allclose(lip_distance(motion), np.arange(5.0))
    np.testing.assert_allclose(lip_distance(3 * motion.reshape(5, 204)), 3 * np.arange(5.0))


def test_motion_lmd_forgets_identity_and_knows_its_unit():
    truth = RNG.normal(size=(30, 68, 3))
    assert motion_lmd(truth + RNG.normal(size=(1, 68, 3)), truth) == pytest.approx(0, abs=1e-9)
    still = motion_lmd(np.zeros_like(truth), truth)
    assert still == pytest.approx(np.linalg.norm((truth - truth.mean(0))[:, 48:], axis=-1).mean())
    assert motion_lmd(truth, -truth) == pytest.approx(2 * still)
    assert motion_lmd(10 * truth.reshape(30, 204), np.zeros((30, 204))) == pytest.approx(10 * still)
    elsewhere = truth.copy()
    elsewhere[:, :48] = 0
    assert motion_lmd(elsewhere, truth) == 0 < motion_lmd(elsewhere, truth, slice(0, 17))


def test_pearson_says_when_it_can_not_tell():
    track = RNG.normal(size=50)
    assert pearson(track, 3 * track + 1) == pytest.approx(1) and pearson(track, -track) == pytest.approx(-1)
    assert np.isnan(pearson(track, np.ones(50))) and np.isnan(pearson(track[:2], track[:2]))
    damaged = np.where(np.arange(50) < 5, 100.0, track)
    assert pearson(damaged, track) < 0.9 < pearson(damaged, track, np.arange(50) >= 5)
