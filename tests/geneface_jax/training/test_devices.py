"""Layout of replicated arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.training import devices


def test_replicate_is_laid_out_as_a_step_returns_it():
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": jnp.int32(4)}
    replicated = devices.replicate(tree)
    step = devices.parallel_step(lambda state, data, batch, rng, step: (state, ()))
    returned, _ = step(devices.replicate(tree), {}, {}, jax.random.key(0), np.int32(0))
    for x, y in zip(jax.tree.leaves(replicated), jax.tree.leaves(returned), strict=True):
        assert x.sharding == y.sharding and x.dtype == y.dtype and x.weak_type == y.weak_type
    np.testing.assert_array_equal(devices.unreplicate(replicated)["a"], tree["a"])
