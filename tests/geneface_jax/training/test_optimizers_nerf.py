"""The vanilla NeRF's optimizer: rates by kind of parameter, and an attention whose moments rest until it is used."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from geneface_jax.training.optimizers import nerf_optimizer

CONFIG = ConfigDict({"lr": 1e-3, "tenth_after": 100, "attention": 5.0, "eps": 1e-8})
PARAMS = {"coarse": {"kernel": jnp.ones(3)}, "attention": {"kernel": jnp.ones(3)}}


def updates(attention_from, steps):
    optimizer = nerf_optimizer(CONFIG, attention_from)
    state, found = optimizer.init(PARAMS), []
    step_fn = jax.jit(optimizer.update)
    for step in range(steps):
        grads = jax.tree.map(lambda p: 0.5 * p, PARAMS)
        if step < attention_from:
            grads["attention"] = jnp.zeros_like(grads["attention"]["kernel"])
            grads["attention"] = {"kernel": grads["attention"]}
        change, state = step_fn(grads, state, PARAMS)
        found.append({name: float(change[name]["kernel"][0]) for name in PARAMS})
    return found


def test_attention_learns_five_times_as_fast():
    first = updates(0, 1)[0]
    np.testing.assert_allclose(first["coarse"], -1e-3, rtol=1e-5)
    np.testing.assert_allclose(first["attention"], -5e-3, rtol=1e-5)


def test_the_rate_falls_to_a_tenth():
    found = updates(0, 102)
    np.testing.assert_allclose(found[100]["coarse"] / found[0]["coarse"], 0.1, rtol=1e-3)


def test_the_first_gradients_of_the_attention_count_as_its_first():
    """Moments that had counted the steps without gradients would make this update three times as large."""
    found = updates(20, 22)
    assert all(update["attention"] == 0 for update in found[:20])
    np.testing.assert_allclose(found[20]["attention"], 5.0 * found[20]["coarse"], rtol=1e-3)
