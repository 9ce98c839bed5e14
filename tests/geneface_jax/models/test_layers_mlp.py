"""The split first layer is the plain layer on the concatenated input."""

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.models.layers import Mlp


def test_shared_inputs_equal_concatenated_ones():
    rng = np.random.default_rng(0)
    x, shared = jnp.asarray(rng.normal(size=(12, 5)), jnp.float32), jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    group = jnp.asarray(rng.integers(0, 3, 12))
    mlp = Mlp(hidden=8, out=2, layers=3)
    params = mlp.init(jax.random.key(0), x, shared, group)
    plain = mlp.apply(params, jnp.concatenate([x, shared[group]], axis=-1))
    np.testing.assert_allclose(mlp.apply(params, x, shared, group), plain, atol=1e-6)
    first = mlp.apply(params, jnp.concatenate([x, jnp.broadcast_to(shared[:1], (12, 4))], axis=-1))
    np.testing.assert_allclose(mlp.apply(params, x, shared), first, atol=1e-6)


def test_weights_start_within_one_over_the_root_of_the_fan_in():
    params = Mlp(hidden=64, out=2, layers=2).init(jax.random.key(0), jnp.zeros((1, 16)))
    kernel = np.asarray(params["params"]["dense_0"]["kernel"])
    assert 0.2 < np.abs(kernel).max() <= 0.25
