"""The head stage's options: moving average, pose refinement, lip patches; each does what it says and leaves the rest alone."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.weights import save_lpips
from geneface_jax.models.lpips import Lpips
from geneface_jax.training import devices
from geneface_jax.training.field_base import trainable
from geneface_jax.training.loop import train
from geneface_jax.training.optimizers import AveragedState, iterate
from geneface_jax.training.stages import head
from tests.synthetic_subject import tiny_field_config, write_subject


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("subject") / "dataset")


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    picture = jnp.zeros((1, 32, 32, 3))
    tree = Lpips("alex").init(jax.random.key(0), picture, picture)["params"]
    flat = {"/".join(key.key for key in path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    return save_lpips(tmp_path_factory.mktemp("lpips") / "lpips_alex.npz", flat)


def config_for(dataset, **sections):
    config = tiny_field_config(configs.from_file("head:demo"), dataset)
    config.optimizer.lr = 1e-2
    config.optimizer.ema = 0.0
    for name, values in sections.items():
        config[name].update(values)
    return config


def run(stage, steps, batches=None):
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    history = []
    for step in range(steps):
        batch = (batches or stage.host_batch)(step)
        state, metrics = step_fn(state, data, devices.shard(batch), jax.random.fold_in(jax.random.key(1), step), jnp.int32(step))
        history.append({k: float(v[0]) for k, v in metrics.items()} | {"grid": float(state["occupancy"]["grid"].sum())})
    return devices.unreplicate(state), history


def test_the_average_does_not_change_how_the_iterate_moves(dataset):
    """Compared by what the iterate sees: single entries of a grid whose gradient is almost zero take Adam's whole step either way."""
    plain, history = run(head.HeadStage(config_for(dataset)), 6)
    state, averaged_history = run(head.HeadStage(config_for(dataset, optimizer={"ema": 0.9})), 6)
    assert isinstance(state["opt_state"], AveragedState)
    for a, b in zip(history, averaged_history, strict=True):
        assert b["mse"] == pytest.approx(a["mse"], rel=1e-3)
    iterated = iterate(trainable(state), state["opt_state"])["params"]
    kernel = lambda params: params["color_net"]["dense_0"]["kernel"]  # noqa: E731
    np.testing.assert_allclose(kernel(iterated), kernel(plain["params"]), atol=2e-3)
    assert np.abs(kernel(state["params"]) - kernel(plain["params"])).max() > 3e-3


def test_refined_poses_find_a_camera_that_was_wrong(dataset, tmp_path):
    """Cameras are moved up and down by noise; the field can't explain that, the corrections can."""
    arrays = dict(np.load(dataset / "arrays.npz"))
    shifts = np.random.default_rng(0).normal(size=len(arrays["cameras"])) * 0.02
    folder = write_subject(tmp_path / "dataset")
    arrays["cameras"][:, 1, 3] += shifts
    np.savez(folder / "arrays.npz", **arrays)
    config = config_for(folder, pose_refinement={"lr": 3e-3, "start": 20, "weight": 0.0})
    config.train.steps = 150
    config.data.rays = 256
    stage = head.HeadStage(config)
    state, history = run(stage, 150)
    assert history[10]["pose_correction"] == 0 < history[-1]["pose_correction"]
    found = np.asarray(state["poses"]["corrections"])[:, 3]  # scene x is up; a camera that was moved up has to come down
    assert np.corrcoef(found, shifts[: len(found)])[0, 1] < -0.7
    off, _ = run(head.HeadStage(config_for(folder)), 1)
    assert "poses" not in off


def test_lip_steps_look_at_a_patch_and_freeze_the_grid(dataset, weights_file):
    lips = {"start": 4, "every": 2, "side": 8, "weight": 0.01, "ramp": 4, "weights": str(weights_file), "shown_side": 32}
    stage = head.HeadStage(config_for(dataset, lips=lips, march={"update_every": 2}))
    assert [bool(stage.lips.due(step)) for step in range(9)] == [False] * 5 + [True, False, True, False]
    pixels = stage.host_batch(5)["pixels"]
    assert (np.diff(pixels[:, :8, 1]) == 1).all() and (pixels[:, :8, 0] == pixels[:, :1, 0]).all()
    state, history = run(stage, 8)
    assert [metrics["lpips"] > 0 for metrics in history] == [bool(stage.lips.due(step)) for step in range(8)]
    assert all(np.isfinite(list(metrics.values())).all() for metrics in history)
    assert sum(metrics["lpips_skipped"] for metrics in history) == 0
    grids = [metrics["grid"] for metrics in history]
    assert grids[0] != grids[2] and len(set(grids[2:])) == 1, "updates at steps 0 and 2, none from step 4 on"


def test_a_broken_perceptual_gradient_does_not_reach_the_network(dataset, weights_file, tmp_path):
    flat = dict(np.load(weights_file))
    flat["weights_0"] = np.full_like(flat["weights_0"], np.nan)
    broken = save_lpips(tmp_path / "broken.npz", flat)
    lips = {"start": 0, "every": 1, "side": 8, "weight": 1.0, "ramp": 1, "weights": str(broken), "shown_side": 32}
    state, history = run(head.HeadStage(config_for(dataset, lips=lips)), 2)
    assert [metrics["lpips_skipped"] for metrics in history] == [1.0, 1.0]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state["params"]))


def test_lips_ask_for_weights_only_when_their_turn_will_come(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    head.HeadStage(config_for(dataset, lips={"weight": 0.01, "start": 60, "side": 8}))
    with pytest.raises(InputError, match="fetch_lpips"):
        head.HeadStage(config_for(dataset, lips={"weight": 0.01, "start": 30, "side": 8}))
    with pytest.raises(InputError, match="does not fit 64 rays"):
        head.HeadStage(config_for(dataset, lips={"weight": 0.01, "start": 30, "side": 9}))


def test_a_resumed_run_equals_an_undisturbed_one(dataset, tmp_path):
    def config():
        config = config_for(dataset, optimizer={"ema": 0.9}, pose_refinement={"lr": 1e-3})
        config.train.update({"steps": 4, "eval_every": 0, "save_every": 2})
        return config

    whole, part = train(config(), tmp_path / "whole"), train(config(), tmp_path / "part")
    checkpoint = checkpoints.load(part, 2, drop=())
    assert set(checkpoint.state) == {"params", "poses", "opt_state", "occupancy"}
    shutil.rmtree(part / "checkpoints" / "4")
    train(config(), part)
    a, b = checkpoints.load(whole, 4, drop=()).state, checkpoints.load(part, 4, drop=()).state
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
