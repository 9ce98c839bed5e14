"""Losses, augmentation, metrics and optimisers of the speech-to-motion stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import audio2motion as audio2motion_config
from geneface_jax.data.speech_batches import SILENCE, model_audio
from geneface_jax.training.optimizers import adam, learning_rate, rmsprop
from geneface_jax.training.speech import losses
from geneface_jax.training.speech.augment import augment, augment_batch, warp_frequency
from geneface_jax.training.speech.sync import auc, window_scores
from geneface_jax.training.speech.validation import motion_metrics
from geneface_jax.training.stages.postnet import upper_face_weights
from tests.synthetic_corpus import speech_and_motion

STRENGTH = audio2motion_config.get_config("demo").data.augment


@pytest.fixture(scope="module")
def audio():
    mel, f0, _ = speech_and_motion(np.random.default_rng(0), 40)
    return jnp.asarray(model_audio(mel, f0))


def test_masked_losses_do_not_see_padding():
    rng = np.random.default_rng(0)
    prediction, truth = rng.normal(size=(2, 6, 4)), rng.normal(size=(2, 6, 4))
    mask = np.array([[1.0] * 6, [1.0, 1, 1, 0, 0, 0]])
    spoiled = prediction.copy()
    spoiled[1, 3:] += 9.0
    for loss in (losses.masked_mse, losses.continuity):
        np.testing.assert_allclose(loss(spoiled, truth, mask), loss(prediction, truth, mask), rtol=1e-5)
        assert float(loss(truth, truth, mask)) == 0.0
    difference = (prediction - truth)[mask > 0]
    np.testing.assert_allclose(losses.masked_mse(prediction, truth, mask), np.mean(difference**2), rtol=1e-5)


def test_the_upper_face_can_weigh_less_than_the_mouth():
    weights = upper_face_weights(0.25)
    truth, mask = np.zeros((1, 3, 204)), np.ones((1, 3))
    brow, lip = truth.copy(), truth.copy()
    brow[..., 3 * 17], lip[..., 3 * 48] = 1.0, 1.0
    errors = [float(losses.masked_mse(x, truth, mask, weights)) for x in (brow, lip)]
    np.testing.assert_allclose(errors[0], 0.25 * errors[1], rtol=1e-6)
    assert np.sum(weights == 0.25) == 3 * (48 - 17) and np.array_equal(upper_face_weights(1.0), np.ones(204))


def test_kl_of_the_prior_with_itself_is_zero_and_grows_with_the_distance():
    z = jax.random.normal(jax.random.key(0), (4, 500, 8))
    zeros, mask = jnp.zeros_like(z), jnp.ones((4, 500, 1))
    assert abs(float(losses.kl_single_sample(zeros, zeros, z, z, mask))) < 1e-6
    shifted = losses.kl_single_sample(zeros + 1.0, zeros, z + 1.0, z + 1.0, mask)
    np.testing.assert_allclose(shifted, 0.5, atol=0.05)


def test_bce_is_that_of_torch_at_its_ends():
    np.testing.assert_allclose(losses.sync_bce(jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])), 50.0)
    np.testing.assert_allclose(losses.sync_bce(jnp.array([0.25]), 1.0), -np.log(0.25), rtol=1e-5)
    gradient = jax.grad(lambda p: losses.sync_bce(p, 1.0))(jnp.array([0.25, 0.5]))
    np.testing.assert_allclose(gradient, [-2.0, -1.0], rtol=1e-5)


def test_warp_moves_a_formant_by_its_factor():
    mel = jnp.zeros((1, 80)).at[0, 40].set(1.0)
    np.testing.assert_allclose(warp_frequency(mel, jnp.float32(1.0)), mel, atol=1e-4)
    peaks = [int(jnp.argmax(warp_frequency(mel, jnp.float32(factor))[0])) for factor in (0.85, 1.15)]
    assert peaks[0] < 40 < peaks[1]


def test_augmentation_keeps_the_shape_of_speech_and_is_off_at_zero(audio):
    none = {name: 0 for name in STRENGTH} | {"noise": -99.0}
    np.testing.assert_allclose(augment(jax.random.key(0), audio, none), audio, atol=2e-3)
    changed = jnp.stack([augment(jax.random.key(seed), audio, STRENGTH) for seed in range(4)])
    assert np.abs(changed - audio).mean() > 0.05 and np.abs(changed[0] - changed[1]).mean() > 0.05
    assert float(changed[..., :80].min()) >= SILENCE - 1e-4 and np.isfinite(changed).all()
    loudness = [np.corrcoef(x[:, :80].mean(-1), audio[:, :80].mean(-1))[0, 1] for x in np.asarray(changed)]
    assert min(loudness) > 0.6
    assert set(np.unique(changed[..., 81])) <= {0.0, 1.0}


def test_augmentation_of_an_item_depends_on_its_number_alone(audio):
    batch = jnp.stack([audio, audio, audio])
    whole = augment_batch(jax.random.key(0), jnp.arange(3), batch, STRENGTH)
    np.testing.assert_allclose(augment_batch(jax.random.key(0), jnp.array([2]), batch[:1], STRENGTH)[0], whole[2], atol=1e-5)


def test_metrics_ignore_the_face_and_see_the_mouth():
    truth = speech_and_motion(np.random.default_rng(0), 80)[2]
    report = motion_metrics([np.zeros_like(truth), truth + 3.0], [truth, truth])
    np.testing.assert_allclose(report["val/lmd_ratio"], 0.5, rtol=1e-4)
    # The mouth that stands still counts as uncorrelated.
    np.testing.assert_allclose(report["val/mouth_correlation"], 0.5, rtol=1e-4)


def test_auc():
    assert auc([3, 4], [1, 2]) == 1.0 and auc([1, 2], [3, 4]) == 0.0 and auc([1, 1], [1]) == 0.5
    assert np.isnan(auc([], [1]))
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 200), rng.normal(0, 1, 150)
    np.testing.assert_allclose(auc(a, b), np.mean(a[:, None] > b[None, :]))


def test_window_scores_find_the_shift():
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(60, 16))
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    mouth = audio[5:]
    assert window_scores(audio, mouth, 5).min() > 0.999 > window_scores(audio, mouth, 0).max()
    assert len(window_scores(audio[:10], mouth[:10])) == 0


def test_learning_rates():
    config = ConfigDict({"lr": 1e-3, "schedule": "exponential", "warmup": 10, "clip": 1.0})
    rate = learning_rate(config, 100)
    np.testing.assert_allclose([rate(jnp.array(n)) for n in (0, 6, 11)], [1e-7, 5e-4, 1e-3], rtol=1e-3)
    np.testing.assert_allclose(rate(jnp.array(250_001)), 1e-4, rtol=1e-3)
    config.schedule = "cosine"
    assert float(learning_rate(config, 100)(jnp.array(101))) == pytest.approx(1e-7)
    config.schedule = "staircase"
    with pytest.raises(ValueError, match="staircase"):
        learning_rate(config, 100)


def test_optimizers_first_steps_are_pytorchs():
    config = ConfigDict({"lr": 1e-2, "schedule": "constant", "warmup": 0, "clip": 1e9})
    gradient, params = jnp.array([0.5, -3.0]), jnp.zeros(2)
    for rule, wanted in ((adam, -1e-2 * np.sign(gradient)), (rmsprop, -1e-2 * np.sign(gradient) / np.sqrt(0.01))):
        optimizer = rule(config, 10)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        np.testing.assert_allclose(updates, wanted, rtol=1e-4)
    config.clip = 1.0
    optimizer = rmsprop(config, 10)
    small, _ = optimizer.update(1e-9 * gradient, optimizer.init(params), params)
    assert np.abs(small).max() < 1e-2 * 3e-9 / 1e-8 * 1.01
