"""Metrics with known answers: pixels, masks, landmarks, correlations, baselines."""

import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from skimage.metrics import peak_signal_noise_ratio

from geneface_jax.data.motion import pearson
from geneface_jax.evaluation.heldout import MeanImage, nearest_training_frames
from geneface_jax.evaluation.metrics import (
    best_lag,
    difference,
    envelope,
    envelope_correlation,
    face_hull_mask,
    hard_head_mask,
    jitter,
    lmd,
    mouth_mask,
    neck_band_mask,
    pose_jitter,
    psnr,
    ssim_map,
)
from geneface_jax.evaluation.scores import PixelScores, frames_per_second

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(20, 230, (40, 40, 3), dtype=np.uint8)


def test_psnr_of_a_constant_error_is_known_and_masks_count_only_their_pixels():
    off = IMAGE + np.uint8(10)
    assert psnr(off, IMAGE) == pytest.approx(10 * np.log10(255**2 / 100))
    mask = np.zeros((40, 40), bool)
    mask[5:9, 7:20] = True
    assert psnr(np.where(mask[..., None], off, 0).astype(np.uint8), IMAGE, mask) == pytest.approx(10 * np.log10(255**2 / 100))
    assert psnr(IMAGE, IMAGE) == np.inf and np.isnan(psnr(off, IMAGE, np.zeros((40, 40), bool)))
    noisy = np.clip(IMAGE + RNG.normal(0, 12, IMAGE.shape), 0, 255).astype(np.uint8)
    assert psnr(noisy, IMAGE) == pytest.approx(peak_signal_noise_ratio(IMAGE, noisy), abs=1e-4)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    np.testing.assert_allclose(ssim_map(IMAGE, IMAGE), 1.0, atol=1e-6)
    values = [ssim_map(np.clip(IMAGE + RNG.normal(0, s, IMAGE.shape), 0, 255).astype(np.uint8), IMAGE).mean() for s in (5, 20, 60)]
    assert 1 > values[0] > values[1] > values[2]


def test_scores_are_means_of_frames_per_region_and_skip_empty_regions():
    scores, mask = PixelScores(), np.zeros((40, 40), bool)
    for error in (5, 20):
        scores.add(IMAGE + np.uint8(error), IMAGE, {"frame": None, "mouth": mask})
        mask = mask.copy()
        mask[:10, :10] = True
    summary = scores.summary()
    expected = np.mean([10 * np.log10(255**2 / error**2) for error in (5, 20)])
    assert summary["frame"]["psnr"] == pytest.approx(expected) and summary["frame"]["frames"] == 2
    assert summary["mouth"]["psnr"] == pytest.approx(10 * np.log10(255**2 / 400)) and summary["mouth"]["pixels"] == 100


def test_hull_is_the_dilated_polygon_and_scales_with_size():
    square = np.array([[50, 60], [150, 60], [150, 180], [50, 180], [90, 90]], float)
    at_256 = face_hull_mask(square, 256)
    rows, columns = np.where(at_256)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((60 - 7, 179 + 7, 50 - 7, 149 + 7), abs=1)
    at_512 = face_hull_mask(2 * square, 512)
    assert at_512.mean() == pytest.approx(at_256.mean(), rel=0.02)
    assert not face_hull_mask(np.zeros((478, 3)), 64).any()


def test_mouth_region_is_one_and_a_half_lip_boxes_inside_the_picture():
    region = mouth_mask(np.array([104, 120, 136, 136]), 256)
    rows, columns = np.where(region)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (96, 144, 116, 140)
    half = mouth_mask(np.array([104, 120, 136, 136]), 128, 256)
    assert half.sum() * 4 == region.sum()
    assert mouth_mask(np.array([0, 0, 40, 40]), 256)[0, 0]
    assert hard_head_mask(np.array([[0, 127, 128, 255]], np.uint8)).tolist() == [[False, False, True, True]]


def face(t):
    return np.cumsum(RNG.normal(size=(t, 68, 2)), axis=0) * 0.1 + RNG.normal(0, 30, (1, 68, 2)) + 128


def test_lmd_ignores_shifts_of_the_head_and_measures_the_mouth():
    a = face(20)
    assert lmd(a, a + RNG.normal(0, 5, (20, 1, 2))) == pytest.approx(0, abs=1e-9)
    moved = a.copy()
    moved[:, 48:] += [3, 4]
    assert lmd(moved, a) == pytest.approx(5)
    moved = a.copy()
    moved[:, 0:17] += 50
    assert lmd(moved, a) == 0


def test_jitter_is_zero_for_steady_motion():
    steady = np.arange(20)[:, None, None] * RNG.normal(size=(1, 68, 3))
    assert jitter(steady) == pytest.approx(0, abs=1e-9) and jitter(steady[:2]) == 0
    assert jitter(np.array([0.0, 1.0, 0.0, 1.0])) == 2.0
    angles = 0.5 * np.arange(30) + np.where(np.arange(30) % 2, 0.1, 0.0)
    cameras = np.tile(np.eye(4), (30, 1, 1))
    cameras[:, :3, :3] = Rotation.from_euler("y", angles[:, None], degrees=True).as_matrix()
    cameras[:, 0, 3] = 0.001 * np.arange(30)
    rotation, translation = pose_jitter(cameras)
    assert rotation == pytest.approx(0.2, rel=1e-3) and translation == pytest.approx(0, abs=1e-9)


def test_correlation_and_lag():
    signal = np.convolve(RNG.normal(size=200), np.ones(5) / 5, mode="valid")
    assert pearson(signal, 3 * signal + 1) == pytest.approx(1) and pearson(signal, -signal) == pytest.approx(-1)
    assert np.isnan(pearson(signal, np.ones_like(signal)))
    for lag in (-4, 0, 3):
        late = np.roll(signal, lag)
        r, found = best_lag(late, signal)
        assert found == lag and r > 0.99
    damaged = signal.copy()
    damaged[50:60] = 100
    valid = np.ones(len(signal), bool)
    valid[50:60] = False
    assert pearson(damaged, signal) < 0.5 < pearson(damaged, signal, valid) == pytest.approx(1)


def test_the_envelope_follows_loudness_and_not_the_recording_level():
    loud = np.repeat(RNG.uniform(0.05, 1, 100), 640)
    samples = 0.3 * loud * RNG.normal(size=loud.size)
    curve = envelope(samples, 100)
    assert curve.min() >= 0 and curve.max() <= 1
    np.testing.assert_allclose(envelope(0.01 * samples, 100), curve, atol=1e-3)
    assert len(envelope(samples[:1000], 100)) == 100


def test_a_mouth_that_follows_its_sound_beats_the_shuffled_control():
    # Draws of its own: those of RNG depend on which tests a process ran before, and about one draw in four misses a bound below.
    rng = np.random.default_rng(1)
    loud = np.clip(np.convolve(rng.normal(size=300), np.ones(6) / 2, mode="same"), 0.02, None)
    samples = 0.1 * np.repeat(loud, 640) * rng.normal(size=300 * 640)
    follows = envelope_correlation(envelope(samples, 300) + 0.1 * rng.normal(size=300), samples)
    assert follows.correlation > 0.8 and follows.best_lag == 0 and abs(follows.shuffled) < 0.1 and follows.shuffled_95 < follows.correlation
    ignores = envelope_correlation(rng.normal(size=300), samples)
    assert abs(ignores.correlation) < 0.25


def test_baselines_find_the_nearest_frame_and_the_mean():
    landmarks = RNG.normal(size=(12, 478, 3))
    landmarks[10], landmarks[11] = landmarks[3] + 0.01, landmarks[7] - 0.01
    assert nearest_training_frames(landmarks, range(10), range(10, 12)).tolist() == [3, 7]
    mean = MeanImage()
    for value in (10, 20, 60):
        mean.add(np.full((4, 4, 3), value, np.uint8))
    assert (mean.result() == 30).all()


def test_the_neck_band_is_sixteen_pixels_along_the_border_of_head_and_torso():
    """A head in rows 0 to 99 of 256, a torso from row 100 down whose neck goes on behind the head."""
    head, torso = np.zeros((256, 256), np.uint8), np.zeros((256, 256), np.uint8)
    head[:100, 60:200], torso[80:, 100:150] = 255, 255
    band = neck_band_mask(head, torso)
    rows, columns = np.where(band)
    assert (rows.min(), rows.max()) == (92, 107), "eight pixels to each side"
    assert 92 <= columns.min() <= 100 and 149 <= columns.max() <= 157
    double = neck_band_mask(*(mask.repeat(2, 0).repeat(2, 1) for mask in (head, torso)))
    assert double.mean() == pytest.approx(band.mean(), rel=0.05), "scaled with the size"
    assert not neck_band_mask(head, np.zeros_like(torso)).any() and not neck_band_mask(np.zeros_like(head), torso).any()


def test_the_difference_is_amplified_and_blind_to_its_sign():
    assert (difference(IMAGE + np.uint8(10), IMAGE) == 40).all() and (difference(IMAGE, IMAGE + np.uint8(10)) == 40).all()
    assert difference(np.full((2, 2, 3), 255, np.uint8), np.zeros((2, 2, 3), np.uint8)).max() == 255


def test_speed_counts_neither_warming_up_nor_more_frames_than_wanted():
    def frames(seconds):
        for pause in seconds:
            time.sleep(pause)
            yield IMAGE

    asked = frames([0.2, 0.2, 0.01, 0.01, 0.01, 0.01, 5.0])
    found = frames_per_second(asked, warm_up=2, measured=4)
    assert found["frames"] == 4 and 30 < found["frames_per_second"] < 101 and found["device"]
    assert frames_per_second(frames([0, 0]), warm_up=2) is None
