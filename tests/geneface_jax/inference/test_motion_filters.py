import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.landmarks68 import BROWS, EYES, MOUTH, mean_face
from geneface_jax.inference import motion_filters as filters
from geneface_jax.inference.blinks import blink_envelope, inject_blinks


@pytest.fixture
def motion():
    return np.random.default_rng(0).normal(size=(30, 204)).astype(np.float32)


def test_clamp_limits_every_group(motion):
    mean, std = np.full(204, 0.5, np.float32), np.full((68, 3), 0.1, np.float32)
    clamped = (filters.clamp(100 * motion, mean, std, 2.0) - mean).reshape(-1, 68, 3)
    np.testing.assert_allclose(np.abs(clamped[:, MOUTH]).max(), 0.2, rtol=1e-5)
    for group in (BROWS, EYES):
        np.testing.assert_allclose(np.abs(clamped[:, group, :2]).max(), 0.1, rtol=1e-4)
        np.testing.assert_allclose(np.abs(clamped[:, group, 2]).max(), 0.2, rtol=1e-5)
    np.testing.assert_array_equal(filters.clamp(motion, mean, 1e3 * np.ones(204), 1.0), motion)


def test_exponential_smoothing_is_the_recursion(motion):
    smoothed = filters.smooth_exponential(motion, 0.2)
    np.testing.assert_array_equal(smoothed[0], motion[0])
    np.testing.assert_allclose(smoothed[5], 0.2 * smoothed[4] + 0.8 * motion[5], rtol=1e-5)
    np.testing.assert_array_equal(filters.smooth_exponential(motion, 0.0), motion)


def test_moving_average_keeps_constants_and_reflects_ends(motion):
    np.testing.assert_allclose(filters.smooth_moving_average(np.ones((9, 3)), 7), 1.0, rtol=1e-6)
    smoothed = filters.smooth_moving_average(motion, 3)
    np.testing.assert_allclose(smoothed[4], motion[3:6].mean(0), atol=1e-5)
    np.testing.assert_allclose(smoothed[0], (motion[0] + 2 * motion[1]) / 3, atol=1e-5)
    np.testing.assert_allclose(filters.smooth_moving_average(motion[::-1], 5)[::-1], filters.smooth_moving_average(motion, 5), atol=1e-5)
    assert filters.smooth_moving_average(motion[:1], 7).shape == (1, 204)
    with pytest.raises(InputError, match="odd"):
        filters.smooth_moving_average(motion, 4)


def test_mouth_amplitude_scales_only_the_lower_face(motion):
    mean = motion.mean(0)
    np.testing.assert_allclose(filters.mouth_amplitude(motion, mean, 0.4), motion, atol=1e-6)
    doubled = filters.mouth_amplitude(motion, mean, 0.8).reshape(-1, 68, 3)
    deviation = (motion - mean).reshape(-1, 68, 3)
    np.testing.assert_allclose(doubled[:, MOUTH] - mean.reshape(68, 3)[MOUTH], 2 * deviation[:, MOUTH], atol=1e-5)
    np.testing.assert_allclose(doubled[:, 17:48], motion.reshape(-1, 68, 3)[:, 17:48], atol=1e-6)
    still = filters.mouth_amplitude(motion, mean, 0.0).reshape(-1, 68, 3)
    np.testing.assert_allclose(still[:, MOUTH].std(0), 0, atol=1e-6)


def test_lle_leaves_what_the_database_spans(motion):
    database = np.random.default_rng(1).normal(size=(50, 3)) @ np.random.default_rng(2).normal(size=(3, 204))
    inside = database[:5] * 0.5 + database[5:10] * 0.5
    np.testing.assert_allclose(filters.lle_project(inside, database, ridge=1e-9), inside, atol=1e-3)
    projected = filters.lle_project(motion, database)
    assert np.linalg.norm(projected - motion) < np.linalg.norm(motion)
    basis = np.linalg.qr(database.T)[0][:, :3]
    np.testing.assert_allclose(projected @ basis @ basis.T, projected, atol=1e-2)
    np.testing.assert_array_equal(filters.lle_project(motion, database, percent=0.0), motion)
    half = filters.lle_project(motion, database, percent=0.5)
    np.testing.assert_allclose(half, 0.5 * (motion + projected), atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_lle_survives_repeated_and_few_frames(motion, rows):
    database = np.tile(motion[:rows], (4, 1))
    projected = filters.lle_project(motion, database)
    assert np.isfinite(projected).all() and np.abs(projected).max() < 100
    np.testing.assert_allclose(filters.lle_project(motion, motion[:1]), np.tile(motion[:1], (30, 1)), atol=1e-5)


def test_blinks_close_the_eyes_on_time_and_nothing_else():
    motion = np.zeros((250, 204), np.float32)
    blinked, openness = inject_blinks(motion, 0.3, 0.05, 100, mean_face=mean_face())
    envelope = blink_envelope(250)
    assert np.flatnonzero(envelope)[[0, 7]].tolist() == [75, 175] and envelope[78] == 1.0
    np.testing.assert_allclose(openness, 0.3 - 0.25 * envelope, atol=1e-6)
    points = blinked.reshape(-1, 68, 3) / 10 + mean_face()
    gap = np.linalg.norm(points[:, [37, 38, 43, 44]] - points[:, [41, 40, 47, 46]], axis=-1).mean(-1)
    assert gap[78] < 1e-6 < gap[0] and np.all(np.diff(gap[75:79]) < 0)
    others = [i for i in range(68) if i not in (37, 38, 40, 41, 43, 44, 46, 47)]
    assert np.abs(blinked.reshape(-1, 68, 3)[:, others]).max() < 1e-6
    np.testing.assert_allclose(blinked[envelope == 0], 0, atol=1e-6)
    with pytest.raises(InputError, match="blink"):
        inject_blinks(motion, 0.3, 0.05, 7, mean_face=mean_face())


def test_lle_of_a_region_leaves_the_rest_and_finds_its_own_neighbors(motion):
    mouth = list(range(48, 68))
    rng = np.random.default_rng(3)
    database = rng.normal(size=(40, 68, 3)).astype(np.float32)
    # The mouths wanted are in the database, but with other brows: the whole face's neighbors are other frames.
    wanted = motion.reshape(-1, 68, 3).copy()
    database[:30, mouth] = wanted[:, mouth]
    database[:30, 17:27] += 50.0
    database = database.reshape(-1, 204)
    projected = filters.lle_project_points(motion, database, mouth, 1, 1.0)
    np.testing.assert_allclose(projected, motion, atol=1e-4)
    far = np.abs(filters.lle_project(motion, database, 1, 1.0) - motion).reshape(-1, 68, 3)
    assert far[:, mouth].max() > 0.5
    damaged = motion + rng.normal(size=motion.shape).astype(np.float32)
    moved = (filters.lle_project_points(damaged, database, mouth, 5, 1.0) - damaged).reshape(-1, 68, 3)
    assert np.abs(moved[:, :48]).max() == 0 < np.abs(moved[:, 48:]).min(axis=(1, 2)).max()
    half = (filters.lle_project_points(damaged, database, mouth, 5, 0.5) - damaged).reshape(-1, 68, 3)
    np.testing.assert_allclose(half, 0.5 * moved, atol=1e-5)


@pytest.mark.parametrize(("neighbors", "distinct"), [(1, 1), (4, 4), (9, 4)])
def test_lle_mixes_k_frames_of_the_database(neighbors, distinct):
    """K - 1 directions are what the projections of many frames around one place can span."""
    rng = np.random.default_rng(4)
    database = np.concatenate([rng.normal(size=(distinct, 204)), 100.0 + rng.normal(size=(3, 204))]).astype(np.float32)
    frames = rng.normal(size=(50, 204)).astype(np.float32)
    projected = filters.lle_project(frames, database[:distinct], neighbors)
    assert np.linalg.matrix_rank(projected - projected[0], tol=0.05) <= distinct - 1
