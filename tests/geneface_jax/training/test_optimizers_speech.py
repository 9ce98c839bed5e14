"""Learning rates and optimizers of the speech-to-motion stages follow PyTorch's rules."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from geneface_jax.training.optimizers import adam, learning_rate, rmsprop


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
