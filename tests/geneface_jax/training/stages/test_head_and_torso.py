"""Head and torso stages on a synthetic person: they learn held-out pictures, and steps do not depend on the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.io import configs
from geneface_jax.training import devices
from geneface_jax.training.loop import train
from geneface_jax.training.stages.head import HeadStage
from geneface_jax.training.stages.torso import TorsoStage
from tests.synthetic_subject import tiny_field_config, write_subject

STAGES = {"head": HeadStage, "torso": TorsoStage}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("subject") / "dataset")


def make(name, dataset, **optimizer):
    config = tiny_field_config(configs.from_file(f"{name}:demo"), dataset)
    if name == "torso":
        config.loss.update({"composite": 0.0, "hidden": 1.0})  # this person has no trained head
    config.optimizer.update({"lr": 1e-2, **optimizer})
    return STAGES[name](config)


def run(stage, steps):
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    history = []
    for step in range(steps):
        rng = jax.random.fold_in(jax.random.key(1), step)
        state, metrics = step_fn(state, data, devices.shard(stage.host_batch(step)), rng, jnp.int32(step))
        history.append({k: float(v[0]) for k, v in metrics.items()})
    return devices.unreplicate(state), history


@pytest.mark.parametrize("name", STAGES)
def test_learns_held_out_pictures(name, dataset):
    stage = make(name, dataset)
    before = stage.evaluate(stage.init(jax.random.key(0)), None, 0).scalars[stage.best[0]]
    state, history = run(stage, 60)
    after = stage.evaluate(state, None, 60)
    assert history[-1]["mse"] < 0.3 * history[0]["mse"]
    assert after.scalars[stage.best[0]] > before + 3.0
    for image in after.images.values():
        assert image.dtype == np.uint8 and image.ndim == 3


def test_head_occupancy_becomes_a_head(dataset):
    stage = make("head", dataset)
    state, history = run(stage, 40)
    grid = np.asarray(state["occupancy"]["grid"])
    assert (grid == -1).mean() > 0.5, "cells outside the masks stay carved"
    assert 0 < history[-1]["occupancy"] < (grid >= 0).mean() + 1e-6
    assert history[-1]["samples_per_ray"] <= stage.config.march.budget


def test_batches_are_a_function_of_seed_and_step(dataset):
    a, b = make("head", dataset), make("head", dataset)
    for step in (0, 7):
        for x, y in zip(jax.tree.leaves(a.host_batch(step)), jax.tree.leaves(b.host_batch(step)), strict=True):
            np.testing.assert_array_equal(x, y)
    assert (a.host_batch(0)["pixels"] != a.host_batch(1)["pixels"]).any()
    assert set(a.host_batch(0)["frame"]) <= set(range(a.subject.n_train)), "held-out frames must never be trained on"


def test_empty_masks_are_refused(tmp_path):
    dataset = write_subject(tmp_path / "dataset")
    for path in (dataset / "head").iterdir():
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    with pytest.raises(InputError, match="shows no head, so the masks are empty"):
        make("head", dataset).init(jax.random.key(0))


def test_a_small_head_is_warned_of_once(tmp_path):
    dataset = write_subject(tmp_path / "dataset")
    assert make("head", dataset).remarks({"occupancy": 0.1}) == [], "a disc of 0.3 of the side covers 28 % of the picture"
    for path in (dataset / "head").iterdir():
        mask = np.zeros((32, 32), np.uint8)
        mask[12:18, 12:18] = 255
        Image.fromarray(mask).save(path)
    stage = make("head", dataset)
    (warning,) = stage.remarks({"occupancy": 0.1})
    assert "only 4 % of the picture" in warning
    assert stage.remarks({"occupancy": 0.1}) == []


def test_an_empty_occupancy_grid_ends_the_run_with_advice(dataset, tmp_path):
    stage = make("head", dataset)
    first = stage.init

    def faded(rng):
        """All features are positive and the density layer's weights negative: exp of minus thousands is 0 everywhere."""
        state = first(rng)
        params = jax.tree.map(jnp.ones_like, state["params"])
        params["sigma_net"]["dense_2"]["kernel"] *= -1.0
        return {**state, "params": params}

    stage.init = faded
    stage.config.train.update({"steps": 4, "log_every": 1})
    with pytest.raises(InputError, match="occupancy grid is empty.*--config.optimizer.lr"):
        train(stage.config, tmp_path / "head", stage=stage)
