"""Checkpoints are restored bit for bit; half-written, missing and foreign folders are not taken for checkpoints."""

from __future__ import annotations

import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.io import checkpoints

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.constant_schedule(1e-3)))


def state(seed: int = 0, width: int = 3):
    params = {"body": {"kernel": jax.random.normal(jax.random.key(seed), (2, width)), "table": jnp.linspace(-1, 1, 8)}}
    return {
        "params": params,
        "batch_stats": {},
        "opt_state": OPTIMIZER.init(params),
        "low": jnp.ones(3, jnp.bfloat16),
        "count": np.int32(5),
    }


def meta(**metrics):
    return {"config": ConfigDict({"stage": "toy", "data": {"subject": "/home/me/dataset"}, "box": (1, 2)}), "metrics": metrics}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(
        np.asarray(x).dtype == np.asarray(y).dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_arrays_come_back_bit_for_bit_under_flat_names(tmp_path):
    checkpoints.save(tmp_path, 7, state(1), meta())
    arrays, step = checkpoints.read_arrays(tmp_path)
    expected = checkpoints.named(state(1))
    assert step == 7 and arrays.keys() == expected.keys() and "params/body/kernel" in arrays
    assert all(np.asarray(expected[name]).tobytes() == value.tobytes() for name, value in arrays.items())


def test_load_leaves_the_optimizer_and_keeps_config_and_metrics(tmp_path):
    checkpoints.save(tmp_path, 7, state(1), meta(**{"val/error": 0.5}))
    checkpoint = checkpoints.load(tmp_path)
    assert "opt_state" not in checkpoint.state
    assert same(checkpoint.state["params"], jax.tree.map(np.asarray, state(1)["params"]))
    assert checkpoint.config == meta()["config"] and checkpoint.config.box == (1, 2)
    assert (checkpoint.step, checkpoint.metrics) == (7, {"val/error": 0.5})
    assert "opt_state" in checkpoints.load(tmp_path, drop=()).state


def test_keeps_the_newest_and_the_best(tmp_path):
    for step, error in [(0, 9.0), (1, 0.1), (2, 0.5), (3, 0.4), (4, float("nan"))]:
        checkpoints.save(tmp_path, step, state(step), meta(**{"val/error": error}), keep=2, best=("val/error", "min"))
    assert checkpoints.steps(tmp_path) == [1, 3, 4]
    assert checkpoints.best_step(tmp_path, "val/error", "min") == 1
    assert checkpoints.best_step(tmp_path, "val/error", "max") == 3
    assert checkpoints.best_step(tmp_path, "val/absent", "min") is None


def test_the_best_may_be_step_zero(tmp_path):
    for step in range(3):
        checkpoints.save(tmp_path, step, state(step), meta(error=float(step)), keep=1, best=("error", "min"))
    assert checkpoints.steps(tmp_path) == [0, 2]


def test_a_half_written_step_is_never_listed(tmp_path):
    checkpoints.save(tmp_path, 1, state(1), meta())
    folder = tmp_path / "checkpoints"
    (folder / "2.orbax-checkpoint-tmp-17" / "state").mkdir(parents=True)
    (folder / "3" / "state").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert checkpoints.steps(tmp_path) == [1]
    assert checkpoints.load(tmp_path).step == 1


def test_a_step_is_replaced(tmp_path):
    checkpoints.save(tmp_path, 1, state(1), meta())
    checkpoints.save(tmp_path, 1, state(2), meta())
    kernel = checkpoints.read_arrays(tmp_path)[0]["params/body/kernel"]
    np.testing.assert_array_equal(kernel, state(2)["params"]["body"]["kernel"])


def test_a_missing_checkpoint_names_the_folder_and_the_way_out(tmp_path):
    with pytest.raises(InputError, match=rf"no checkpoint in {tmp_path}.*geneface train"):
        checkpoints.load(tmp_path)
    checkpoints.save(tmp_path, 4, state(), meta())
    with pytest.raises(InputError, match=r"no checkpoint of step 5 .* there are 4"):
        checkpoints.load(tmp_path, 5)


def test_release_is_small_half_precise_and_names_no_path(tmp_path):
    checkpoints.save(tmp_path / "work", 7, state(1), meta(**{"val/error": 0.5}))
    out = checkpoints.release(tmp_path / "work", tmp_path / "out", half=("params/*table",))
    released, original = checkpoints.load(out, drop=()), checkpoints.load(tmp_path / "work")
    assert "opt_state" not in released.state and released.step == 7 and released.metrics == original.metrics
    body = released.state["params"]["body"]
    assert body["table"].dtype == np.float32, "float16 is only used on disk"
    np.testing.assert_array_equal(body["table"], original.state["params"]["body"]["table"].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(body["kernel"], original.state["params"]["body"]["kernel"])
    assert released.config.data.subject == "dataset"
    grep = subprocess.run(["grep", "-rl", str(tmp_path), str(out)], capture_output=True, text=True)
    assert grep.stdout == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_release_refuses_what_float16_cannot_hold(tmp_path):
    big = {"params": {"table": jnp.array([1e6])}}
    checkpoints.save(tmp_path / "work", 1, big, meta())
    with pytest.raises(InputError, match="params/table"):
        checkpoints.release(tmp_path / "work", tmp_path / "out", half=("*",))
    assert not (tmp_path / "out").exists()


def test_release_cuts_densities_that_float16_cannot_hold(tmp_path):
    checkpoints.save(tmp_path / "work", 1, {"params": {}, "occupancy": {"grid": jnp.array([3.0, 1e9])}}, meta())
    out = checkpoints.release(tmp_path / "work", tmp_path / "out", half=("occupancy/*",))
    np.testing.assert_array_equal(checkpoints.load(out).state["occupancy"]["grid"], [3.0, 65504.0])
