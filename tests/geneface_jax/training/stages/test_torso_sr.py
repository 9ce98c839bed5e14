"""The torso under super-resolution at tiny size, over a head_sr that was never trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.training import devices
from geneface_jax.training.stages.head import HeadSrStage
from geneface_jax.training.stages.torso import TorsoSrStage
from tests.synthetic_subject import tiny_field_config, write_subject


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """SUBJECT with a dataset and a head_sr whose occupancy grid is not empty."""
    folder = tmp_path_factory.mktemp("subject")
    config = tiny_field_config(configs.from_file("head_sr:demo"), write_subject(folder / "dataset"))
    config.data.groups = devices.count()
    config.super_resolution.update({"size": 16, "features": (4, 4)})
    stage = HeadSrStage(config)
    state = stage.init(jax.random.key(0))
    state["occupancy"]["grid"] = jnp.where(state["occupancy"]["grid"] < 0, -1.0, 50.0)
    released = {name: state[name] for name in ("params", "occupancy", "constants")}
    checkpoints.save(folder / "head_sr", 7, released, {"config": stage.config})
    return folder


def config_for(person, variant="demo", **sections):
    config = tiny_field_config(configs.from_file(f"torso_sr:{variant}"), person / "dataset")
    config.data.update({"groups": 2 * devices.count(), "eval_frames": 1})
    config.optimizer.lr = 1e-2
    for name, values in sections.items():
        config[name].update(values)
    return config


def run(stage, steps):
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    history = []
    for step in range(steps):
        batch = devices.shard(stage.host_batch(step))
        state, metrics = step_fn(state, data, batch, jax.random.key(step), jnp.int32(step))
        history.append({k: float(v[0]) for k, v in metrics.items()})
    return devices.unreplicate(state), history


def test_learns_the_torso_and_leaves_the_network_alone(person):
    stage = TorsoSrStage(config_for(person))
    before = stage.evaluate(stage.init(jax.random.key(0)), None, 0).scalars["val/psnr_torso"]
    state, history = run(stage, 60)
    found = stage.evaluate(state, None, 60)
    assert history[-1]["mse"] < 0.5 * history[0]["mse"] and history[-1]["sr_mse"] < 0.6 * history[0]["sr_mse"]
    assert found.scalars["val/psnr_torso"] > before + 2.0 and found.images["val/truth_ours_difference"].shape == (32, 96, 3)
    assert set(state) == {"params", "opt_state"}


def test_two_steps_of_the_reference_which_sees_the_head(person):
    stage = TorsoSrStage(config_for(person, "reference", loss={"composite": 1.0}))
    _, history = run(stage, 2)
    assert all(np.isfinite(list(metrics.values())).all() for metrics in history) and history[0]["composite"] > 0
    assert stage.config.head.step == 7
    assert np.isfinite(stage.evaluate(stage.init(jax.random.key(0)), None, 0).scalars["val/psnr_torso"])


def test_a_missing_head_and_one_without_super_resolution_are_refused(person, tmp_path):
    with pytest.raises(InputError, match="no trained head_sr"):
        TorsoSrStage(config_for(person, data={"head": str(tmp_path)}))
    plain = config_for(person)
    checkpoints.save(tmp_path / "head", 1, {"params": {"a": np.zeros(1)}}, {"config": plain})
    with pytest.raises(InputError, match="without super-resolution"):
        TorsoSrStage(config_for(person, data={"head": str(tmp_path / "head")}))
