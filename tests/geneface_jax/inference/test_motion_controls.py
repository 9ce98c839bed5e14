"""Every motion control acts on the landmarks, and acts on nothing else."""

import numpy as np
import pytest

from data_tools.landmarks68 import mean_face
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion import shape_motion
from tests.tiny_person import partial_subject

T = 110
NEUTRAL = {"blink_mode": "none", "clamp": 10.0, "smooth": 0.0, "close_mouth": 0.0}
"""Disables all controls."""


@pytest.fixture(scope="module")
def person():
    train = np.random.default_rng(0).normal(size=(66, 68, 3)).astype(np.float32)
    # The held-out frames lie elsewhere, which reveals a control that uses them.
    train[60:] += 100.0
    openness = np.where(np.arange(66) % 15 == 7, 0.02, 0.3).astype(np.float32)
    statistics = {"motion_mean": train[:60].mean(0), "motion_std": train[:60].std(0), "mean_face": mean_face()}
    return partial_subject(motion=train, eye_openness=openness, n_train=60, **statistics)


@pytest.fixture(scope="module")
def motion():
    return np.random.default_rng(1).normal(0, 1, (T, 204)).astype(np.float32)


@pytest.fixture
def shape(person, motion):
    def apply(loudness=None, **changes):
        return shape_motion(motion, person, Controls(**{**NEUTRAL, **changes}), loudness)

    return apply


def test_neutral_controls_change_nothing(shape, motion):
    points, eyes = shape()
    np.testing.assert_allclose(points.reshape(T, 204), motion, atol=1e-5)
    np.testing.assert_allclose(eyes, 0.3)


def test_clamp(shape, person):
    normalized = (shape(clamp=1.0)[0] - person.motion_mean) / person.motion_std
    assert 0.99 < np.abs(normalized).max() < 1.001


def test_smooth(shape):
    rough, smooth = (np.abs(np.diff(shape(smooth=amount)[0], axis=0)).mean() for amount in (0.0, 0.8))
    assert smooth < 0.6 * rough


def test_mouth_amplitude(shape):
    small, large = (shape(mouth_amp=amount)[0] for amount in (0.1, 0.8))
    assert np.ptp(small[:, 48:], axis=0).mean() < 0.5 * np.ptp(large[:, 48:], axis=0).mean()
    np.testing.assert_array_equal(small[:, 17:48], large[:, 17:48])  # the jaw (0 to 16) follows the mouth


def to_video(points, person, which):
    """Mean distance of each frame's points to the nearest training frame's."""
    own = person.motion[: person.n_train, which].reshape(1, person.n_train, -1)
    return np.linalg.norm(points[:, which].reshape(len(points), 1, -1) - own, axis=-1).min(1).mean()


@pytest.mark.parametrize(
    ("control", "moved", "still"),
    [
        ("lle", range(68), []),
        ("lle_mouth", range(48, 68), range(48)),
        ("lle_eyes", [*range(17, 27), *range(36, 48)], [*range(17), *range(48, 68)]),
    ],
)
def test_lle_pulls_its_region_towards_the_video(shape, person, control, moved, still):
    plain, half, whole = (shape(**{control: amount})[0] for amount in (0.0, 0.5, 1.0))
    moved, still = list(moved), list(still)
    assert to_video(whole, person, moved) < to_video(half, person, moved) < to_video(plain, person, moved)
    np.testing.assert_array_equal(whole[:, still], plain[:, still])


def test_lle_with_one_frame_copies_frames_of_the_video(shape, person):
    assert to_video(shape(lle=1.0, lle_k=1)[0], person, list(range(68))) < 1e-4
    assert to_video(shape(lle=1.0, lle_k=10)[0], person, list(range(68))) > 1.0


def test_the_mouth_shuts_in_silence_by_as_much_as_is_asked(shape):
    loudness = np.full(T, -20.0)
    loudness[40:70] = -70.0
    plain, half, shut = (shape(loudness, close_mouth=amount)[0] for amount in (0.0, 0.5, 1.0))
    assert np.ptp(shut[45:65, 48:], axis=0).max() < 1e-5 < np.ptp(plain[45:65, 48:], axis=0).min()
    np.testing.assert_allclose(half, 0.5 * (plain + shut), atol=1e-5)
    np.testing.assert_array_equal(shut[:40], plain[:40])
    np.testing.assert_array_equal(shut[:, :48], plain[:, :48])
    np.testing.assert_array_equal(shape(loudness, close_mouth=1.0, silence_db=60.0)[0], plain)
    np.testing.assert_array_equal(shape(None, close_mouth=1.0)[0], plain)


def test_blink_modes(shape, person):
    replayed, eyes = shape(blink_mode="video")
    np.testing.assert_array_equal(replayed[:60, 36:48], person.motion[:60, 36:48])
    np.testing.assert_array_equal(eyes[:60], person.eye_openness[:60])
    _, eyes = shape(blink_mode="period")
    assert eyes.min() < 0.15 and np.median(eyes) > 0.25 and len(eyes) == T


def test_blink_period_counts_frames_and_shuts_the_lids_whatever_clamp_and_smoothing(shape, person):
    points, eyes = shape(blink_mode="period", blink_period=40, clamp=1.0, smooth=0.8)
    shut = np.flatnonzero(eyes == eyes.min())
    assert np.diff(shut).tolist() == [40] and shut[0] == 33
    face = points / 10 + person.mean_face
    lids = np.linalg.norm(face[:, [37, 38, 43, 44]] - face[:, [41, 40, 47, 46]], axis=-1).max(-1)
    assert lids[shut].max() < 1e-5 < lids[0]
