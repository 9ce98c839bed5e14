"""The torso field: its condition, and the head as an input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.grid_encoding import GridSpec

from geneface_jax.models.torso import CONDITIONS, Torso

GRID = GridSpec(dims=2, levels=2, features=2, base_resolution=4, finest_resolution=32, log2_table_size=8, kind="hash")


def make(**fields):
    torso = Torso(GRID, codes=3, code_features=4, hidden_deform=16, hidden=16, **fields)
    coords = jax.random.uniform(jax.random.key(0), (6, 2), minval=-1.0, maxval=1.0)
    init = jax.jit(lambda: torso.init(jax.random.key(1), coords, method=Torso.initialize))
    return torso, init(), coords


def field(torso):
    """(params, coords, condition, code, group, head) -> TorsoSample, compiled once."""
    return jax.jit(lambda params, *inputs: torso.apply({"params": params}, *inputs))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_condition_deforms_and_must_have_the_right_size(condition):
    torso, variables, coords = make(condition=condition)
    params, evaluate, width = variables["params"], field(torso), CONDITIONS[condition]
    code = params["frame_codes"][:1]
    a, b = (evaluate(params, coords, jnp.full((1, width), value), code) for value in (0.0, 0.1))
    assert a.alpha.shape == (6,) and a.rgb.shape == (6, 3) and a.deformation.shape == (6, 2)
    assert np.abs(a.deformation - b.deformation).max() > 1e-6
    with pytest.raises(ValueError, match="condition"):
        evaluate(params, coords, jnp.zeros((1, 20 - width)), code)


def test_unknown_condition_is_refused():
    with pytest.raises(ValueError, match="pose, jaw"):
        make(condition="chin")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_head_encoder_is_always_used_and_gets_a_gradient(condition):
    """The original uses it in every second call and never trains it."""
    torso, variables, coords = make(condition=condition, head_aware=True)
    params, evaluate = variables["params"], field(torso)
    rest = coords, jnp.zeros((1, CONDITIONS[condition])), params["frame_codes"][:1], None
    head = jnp.full((6, 4), 0.5)
    first, second, without = evaluate(params, *rest, head), evaluate(params, *rest, head), evaluate(params, *rest, None)
    np.testing.assert_array_equal(first.alpha, second.alpha)
    assert np.abs(first.alpha - without.alpha).max() > 1e-7
    np.testing.assert_array_equal(without.alpha, evaluate(params, *rest, jnp.zeros((6, 4))).alpha)
    gradient = jax.jit(jax.grad(lambda params: evaluate(params, *rest, head).rgb.sum()))(params)["head_encoder"]
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_a_torso_that_is_not_aware_ignores_the_head():
    torso, variables, coords = make()
    params, evaluate = variables["params"], field(torso)
    rest = coords, jnp.zeros((1, 6)), params["frame_codes"][:1], None
    np.testing.assert_array_equal(evaluate(params, *rest, jnp.ones((6, 4))).rgb, evaluate(params, *rest, None).rgb)


def test_groups_equal_single_evaluation():
    torso, variables, coords = make(head_aware=True)
    params, evaluate = variables["params"], field(torso)
    poses, codes = jax.random.normal(jax.random.key(2), (2, 6)), params["frame_codes"][:2]
    head, group = jax.random.uniform(jax.random.key(3), (6, 4)), jnp.array([0, 1, 1, 0, 1, 0])
    together = evaluate(params, coords, poses, codes, group, head)
    for g in range(2):
        alone = evaluate(params, coords, poses[g : g + 1], codes[g : g + 1], None, head)
        np.testing.assert_allclose(together.rgb[group == g], alone.rgb[group == g], atol=1e-5)
