"""The moving average of parameters: the iterate moves as it would without, the average follows it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geneface_jax.training.optimizers import averaged, iterate


def run(optimizer, steps, start):
    params, history = start, []
    state = optimizer.init(params)
    for step in range(steps):
        point = iterate(params, state)
        history.append(point)
        grads = jax.tree.map(lambda x, step=step: 2 * x + jnp.sin(step * 1.0), point)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state, history


START = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}


def test_the_iterate_moves_as_without_an_average():
    plain = run(optax.adam(0.1), 20, START)[2]
    iterated = run(averaged(optax.adam(0.1), 0.9), 20, START)[2]
    for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(iterated), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5)


def test_the_average_is_the_weighted_mean_of_iterates():
    decay, steps = 0.8, 15
    params, state, history = run(averaged(optax.sgd(0.05), decay), steps, START)
    points = [*history[1:], iterate(params, state)]
    expected = START
    for n, point in enumerate(points):
        share = min(decay, n / (n + 9))
        expected = jax.tree.map(lambda e, p, share=share: share * e + (1 - share) * p, expected, point)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_no_decay_is_the_optimizer_itself():
    optimizer = optax.sgd(0.1)
    assert averaged(optimizer, 0.0) is optimizer
    state = optimizer.init(START)
    assert iterate(START, state) is START
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        averaged(optimizer, 1.0)


def test_a_fresh_state_begins_at_the_parameters():
    """A warm start from a released checkpoint has the average alone."""
    state = averaged(optax.adam(0.1), 0.99).init(START)
    for x, y in zip(jax.tree.leaves(iterate(START, state)), jax.tree.leaves(START), strict=True):
        np.testing.assert_array_equal(x, y)
