"""Losses of the speech-to-motion networks: masks, KL, binary cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.training.speech_losses import continuity, kl_single_sample, masked_mse, sync_bce


def test_masked_losses_do_not_see_padding():
    rng = np.random.default_rng(0)
    prediction, truth = rng.normal(size=(2, 6, 4)), rng.normal(size=(2, 6, 4))
    mask = np.array([[1.0] * 6, [1.0, 1, 1, 0, 0, 0]])
    spoiled = prediction.copy()
    spoiled[1, 3:] += 9.0
    for loss in (masked_mse, continuity):
        np.testing.assert_allclose(loss(spoiled, truth, mask), loss(prediction, truth, mask), rtol=1e-5)
        assert float(loss(truth, truth, mask)) == 0.0
    difference = (prediction - truth)[mask > 0]
    np.testing.assert_allclose(masked_mse(prediction, truth, mask), np.mean(difference**2), rtol=1e-5)


def test_kl_of_the_prior_with_itself_is_zero_and_grows_with_the_distance():
    z = jax.random.normal(jax.random.key(0), (4, 500, 8))
    zeros, mask = jnp.zeros_like(z), jnp.ones((4, 500, 1))
    assert abs(float(kl_single_sample(zeros, zeros, z, z, mask))) < 1e-6
    shifted = kl_single_sample(zeros + 1.0, zeros, z + 1.0, z + 1.0, mask)
    np.testing.assert_allclose(shifted, 0.5, atol=0.05)


def test_bce_is_that_of_torch_at_its_ends():
    np.testing.assert_allclose(sync_bce(jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])), 50.0)
    np.testing.assert_allclose(sync_bce(jnp.array([0.25]), 1.0), -np.log(0.25), rtol=1e-5)
    gradient = jax.grad(lambda p: sync_bce(p, 1.0))(jnp.array([0.25, 0.5]))
    np.testing.assert_allclose(gradient, [-2.0, -1.0], rtol=1e-5)
