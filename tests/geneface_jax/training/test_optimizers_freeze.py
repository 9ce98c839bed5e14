"""Frozen parameters do not move, others do; tensors of another stage are taken under another name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, restore
from geneface_jax.training.optimizers import averaged, freeze_params, iterate

PARAMS = {"grid": {"table": jnp.arange(4.0)}, "net": {"kernel": jnp.ones(3)}}


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_a_frozen_parameter_is_the_same_to_the_bit(decay):
    optimizer = averaged(optax.adam(0.1), decay)
    state = {"params": PARAMS, "opt_state": optimizer.init(PARAMS)}

    def train_step(state, data, batch, rng, step):
        grads = jax.tree.map(jnp.ones_like, state["params"])
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, {}

    step_fn = jax.jit(freeze_params(train_step, ["params/grid/*"]))
    for _ in range(3):
        state, _ = step_fn(state, {}, {}, {}, 0)
    trained = iterate(state["params"], state["opt_state"])
    np.testing.assert_array_equal(trained["grid"]["table"], PARAMS["grid"]["table"])
    assert (np.asarray(trained["net"]["kernel"]) < 0.8).all()


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(InputError, match=r"'params/girds/\*', which matches no parameter: correct it; there are params/grid/table"):
        freeze_params(lambda *args: args, ["params/girds/*"])({"params": PARAMS}, 0, 0, 0, 0)


def test_a_head_becomes_the_head_of_a_head_with_super_resolution(tmp_path):
    checkpoints.save(tmp_path / "head", 3, {"params": PARAMS, "occupancy": {"grid": jnp.ones(2)}}, {})
    fresh = {"params": {"head": jax.tree.map(jnp.zeros_like, PARAMS), "super_resolution": {"kernel": jnp.full(2, 7.0)}}}
    renames = restore.parse_renames("head-into-head_sr", [])
    state, step, skipped = restore.warm_start(tmp_path / "head", fresh, renames=renames)
    assert step == 3 and skipped == []
    np.testing.assert_array_equal(state["params"]["head"]["grid"]["table"], PARAMS["grid"]["table"])
    assert (np.asarray(state["params"]["super_resolution"]["kernel"]) == 7.0).all(), "outside the rule nothing is touched or missed"
    wider = {"params": {**fresh["params"], "head": {**fresh["params"]["head"], "net": {"kernel": jnp.zeros(5)}}}}
    with pytest.raises(InputError, match=r"params/head/net/kernel: the checkpoint holds float32\[3\], this run expects float32\[5\]"):
        restore.warm_start(tmp_path / "head", wider, renames=renames)
    _, _, skipped = restore.warm_start(tmp_path / "head", wider, renames=renames, mode=restore.LENIENT)
    assert [item.name for item in skipped] == ["params/head/net/kernel"]


def test_renames_are_checked():
    assert restore.parse_renames(None, ["params/a=params/b/"]) == [("params/a", "params/b")]
    with pytest.raises(InputError, match="did you mean head-into-head_sr"):
        restore.parse_renames("head-to-head_sr", [])
    with pytest.raises(InputError, match="write OLD=NEW"):
        restore.parse_renames(None, ["params"])
