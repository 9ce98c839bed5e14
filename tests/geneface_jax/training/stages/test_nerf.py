"""Vanilla NeRF stages on a synthetic person: they learn, they restart when dead, and a torso knows its head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints
from geneface_jax.training import devices
from geneface_jax.training.loop import train
from geneface_jax.training.stage import get_stage
from tests.synthetic_subject import write_subject
from tests.tiny_nerf import nerf_config

LEARNS_NOTHING = ("restart.steps=5", "restart.retries=1", "optimizer.lr=0.0")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("subject") / "dataset")


@pytest.fixture(scope="module")
def head_dir(dataset, tmp_path_factory):
    """A head after two steps."""
    return train(nerf_config("nerf_head", dataset, "train.steps=2"), tmp_path_factory.mktemp("work") / "nerf_head")


def overrides_of(stage, head_dir):
    return [f"data.head={head_dir}"] if stage == "nerf_torso" else []


def run(stage, steps, state=None, first=0):
    state = devices.replicate(stage.init(jax.random.key(0)) if state is None else state)
    data, step_fn, history = devices.replicate(stage.data()), devices.parallel_step(stage.train_step), []
    for step in range(first, first + steps):
        rng = jax.random.fold_in(jax.random.key(1), step)
        state, metrics = step_fn(state, data, devices.shard(stage.host_batch(step)), rng, np.int32(step))
        history.append({tag: float(value[0]) for tag, value in metrics.items()})
    return devices.unreplicate(state), history


def kill(state):
    """Both fields are empty, and no gradient can change it."""
    params = state["params"]
    for field in ("coarse", "fine"):
        params[field]["density_out"] = {**params[field]["density_out"], "bias": jnp.full(1, -1e3)}
    return {**state, "params": params}


# The torso's error holds what the head, of two steps, does not show.
@pytest.mark.parametrize(("name", "left"), [("nerf_head", 0.5), ("nerf_torso", 0.75)])
def test_learns_held_out_pictures(name, left, dataset, head_dir):
    stage = get_stage(nerf_config(name, dataset, *overrides_of(name, head_dir)))
    state = stage.init(jax.random.key(0))
    before = stage.evaluate(state, None, 0)
    state, history = run(stage, 80, state)
    after = stage.evaluate(state, None, 80)
    tag = stage.best[0]
    assert np.mean([h["mse"] for h in history[-10:]]) < left * np.mean([h["mse"] for h in history[:5]])
    assert after.scalars[tag] > before.scalars[tag] + 1.0
    picture = after.images["val/truth_ours_difference"]
    assert picture.shape == (16, 48, 3) and picture.dtype == np.uint8


def test_a_dead_start_is_made_again_and_learns(dataset):
    stage = get_stage(nerf_config("nerf_head", dataset))
    dead = kill(stage.init(jax.random.key(0)))
    before = jax.tree.map(np.asarray, dead["params"])
    state, history = run(stage, 60, dead)
    losses = [h["loss"] for h in history]
    assert history[9]["restarts"] == 1 and history[8]["restarts"] == 0
    assert int(state["start"]["attempt"]) >= 1 and int(state["start"]["began"]) >= 10
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:10])
    assert (before["fine"]["density_0"]["kernel"] != np.asarray(state["params"]["fine"]["density_0"]["kernel"])).any()


def test_the_user_is_told_once_of_every_new_start_and_of_the_last(dataset):
    stage = get_stage(nerf_config("nerf_head", dataset))
    assert stage.remarks({"restarts": 0.0, "hopeless": 0.0}) == []
    (line,) = stage.remarks({"restarts": 0.02, "hopeless": 0.0})
    assert "start 2 of at most 4" in line
    assert stage.remarks({"restarts": 1.0, "hopeless": 0.0}) == []
    assert len(stage.remarks({"restarts": 2.1, "hopeless": 0.0})) == 2
    with pytest.raises(InputError, match="4 starts in a row"):
        stage.remarks({"restarts": 3.0, "hopeless": 0.02})


def test_the_loop_stops_a_run_that_never_learns(dataset, tmp_path, capsys):
    """Nothing falls with a rate of 0: two starts, then the way out; nothing is saved."""
    settings = (*LEARNS_NOTHING, "train.steps=20")
    with pytest.raises(InputError, match="2 starts in a row"):
        train(nerf_config("nerf_head", dataset, *settings), tmp_path / "work")
    said = capsys.readouterr()
    assert "restarted with other initial parameters" in said.out + said.err
    assert checkpoints.steps(tmp_path / "work") == []


@pytest.mark.parametrize("stop", [3, 6])
def test_a_run_resumed_around_a_new_start_ends_in_the_same_bits(dataset, tmp_path, stop):
    settings = (*LEARNS_NOTHING, "train.save_every=1")
    whole = train(nerf_config("nerf_head", dataset, *settings, "train.steps=8"), tmp_path / "whole")
    train(nerf_config("nerf_head", dataset, *settings, f"train.steps={stop}"), tmp_path / "parts")
    parts = train(nerf_config("nerf_head", dataset, *settings, "train.steps=8"), tmp_path / "parts")
    states = [checkpoints.load(folder, 8, drop=()).state for folder in (whole, parts)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert int(states[0]["start"]["attempt"]) == 1


def test_depths_are_set_from_the_dataset(dataset):
    stage = get_stage(nerf_config("nerf_head", dataset, "rays.reach=0.4"))
    assert abs(stage.settings.near - 0.9) < 0.01 and abs(stage.settings.far - 1.7) < 0.01
    with pytest.raises(InputError, match="reach"):
        get_stage(nerf_config("nerf_head", dataset, "rays.reach=2.0"))
    with pytest.raises(InputError, match="near"):
        get_stage(nerf_config("nerf_head", dataset, "rays.near=1.0"))


def test_the_head_is_shown_alone(dataset):
    """No torso in the head's targets: what the mask leaves out is background."""
    stage = get_stage(nerf_config("nerf_head", dataset))
    heads, masks = stage.heads(np.array([0])), stage.subject.head_masks([0])
    np.testing.assert_array_equal(heads[masks == 0], stage.subject.background[masks[0] == 0])
    np.testing.assert_array_equal(heads[masks == 255], stage.subject.frames([0])[masks == 255])


def test_a_torso_knows_its_head(dataset, head_dir, tmp_path):
    stage = get_stage(nerf_config("nerf_torso", dataset, f"data.head={head_dir}"))
    assert stage.config.data.head_step == 2 and len(stage.config.head.fingerprint) == 16
    assert stage.settings.near == stage.head_settings.near
    with pytest.raises(InputError, match="names no head"):
        get_stage(nerf_config("nerf_torso", dataset))
    other = write_subject(tmp_path / "dataset", size=48)
    with pytest.raises(InputError, match="was trained with"):
        get_stage(nerf_config("nerf_torso", other, f"data.head={head_dir}"))


def test_a_frozen_head_is_not_in_the_state(dataset, head_dir):
    stage = get_stage(nerf_config("nerf_torso", dataset, f"data.head={head_dir}"))
    state = jax.eval_shape(stage.init, jax.random.key(0))
    assert set(state) == {"params", "opt_state", "start"} and "color_encoder_0" in state["params"]


def test_an_evaluation_size_must_divide(dataset):
    stage = get_stage(nerf_config("nerf_head", dataset, "data.eval_size=7"))
    with pytest.raises(InputError, match="does not divide"):
        stage.evaluate(stage.init(jax.random.key(0)), None, 0)
