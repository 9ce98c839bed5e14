"""The distortion of rays in the head's training: off unless asked for, late, and it makes rays of fog short."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from geneface_jax.io import configs
from geneface_jax.training import devices
from geneface_jax.training.stages.head import HeadStage
from tests.synthetic_subject import tiny_field_config, write_subject


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("subject") / "dataset")


def make(dataset, **distortion):
    config = tiny_field_config(configs.from_file("head:demo"), dataset)
    config.optimizer.lr = 1e-2
    config.distortion.update(distortion)
    return HeadStage(config)


def test_its_weight_is_zero_then_rises_then_stays(dataset):
    stage = make(dataset, weight=0.2, start=100, ramp=50)
    found = [float(stage.distortion_weight(jnp.int32(step))) for step in (0, 98, 99, 124, 149, 5000)]
    np.testing.assert_allclose(found, [0.0, 0.0, 0.0, 0.1, 0.2, 0.2], atol=1e-6)
    at_once = make(dataset, weight=0.2, start=3, ramp=0)
    assert [float(at_once.distortion_weight(jnp.int32(step))) > 0 for step in (2, 3)] == [False, True]


@pytest.mark.parametrize("variant", ["demo", "reference"])
def test_both_variants_become_opaque_late(variant):
    config = configs.from_file(f"head:{variant}")
    distortion, steps = config.distortion, config.train.steps
    assert isinstance(distortion, ConfigDict) and distortion.weight > 0.0 and distortion.jitter == 0.0
    assert 0.4 * steps < distortion.start < distortion.start + distortion.ramp < 0.9 * steps


def run(stage, steps):
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    history = []
    for step in range(steps):
        rng = jax.random.fold_in(jax.random.key(1), step)
        state, metrics = step_fn(state, data, devices.shard(stage.host_batch(step)), rng, jnp.int32(step))
        history.append({name: float(value[0]) for name, value in metrics.items()})
    return history


def test_updates_with_it_shorten_the_rays_and_those_before_its_start_are_unchanged(dataset):
    without, late = (run(make(dataset, weight=weight, start=20, ramp=0), 30) for weight in (0.0, 0.05))
    for name in ("mse", "distortion", "loss"):
        assert [step[name] for step in late[:20]] == [step[name] for step in without[:20]], "bit for bit"
    added = late[20]["loss"] - without[20]["loss"]
    assert added == pytest.approx(0.05 * late[20]["distortion"], rel=1e-3) and added > 0
    assert 0 < late[-1]["distortion"] < 0.9 * without[-1]["distortion"]
