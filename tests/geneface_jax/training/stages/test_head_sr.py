"""Head with super-resolution at tiny size: it learns, begins as a plain enlargement, goes on from a head, and checks sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.weights import save_lpips
from geneface_jax.models.lpips import Lpips
from geneface_jax.models.super_resolution import upsample_image
from geneface_jax.training import devices
from geneface_jax.training.field_losses import adapted_weight, crops, halved
from geneface_jax.training.stages.head import HeadSrStage
from tests.synthetic_subject import tiny_field_config, write_subject


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("subject") / "dataset")


def config_for(dataset, variant="demo", **sections):
    config = tiny_field_config(configs.from_file(f"head_sr:{variant}"), dataset)
    config.data.update({"groups": 2 * devices.count(), "eval_frames": 1})
    config.super_resolution.update({"size": 16, "features": (4, 4)})
    config.march.update({"max_samples": 12, "budget": 12.0})
    config.perceptual.lip_side = 16
    config.optimizer.lr = 1e-2
    for name, values in sections.items():
        config[name].update(values)
    return config


def run(stage, steps):
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    history = []
    for step in range(steps):
        rng = jax.random.fold_in(jax.random.key(1), step)
        state, metrics = step_fn(state, data, devices.shard(stage.host_batch(step)), rng, jnp.int32(step))
        history.append({k: float(v[0]) for k, v in metrics.items()})
    return devices.unreplicate(state), history


def test_learns_both_sizes(dataset):
    stage = HeadSrStage(config_for(dataset))
    before = stage.evaluate(stage.init(jax.random.key(0)), None, 0).scalars
    state, history = run(stage, 60)
    assert set(state["params"]) == {"head", "super_resolution"} and set(state) >= {"constants", "occupancy", "opt_state"}
    found = stage.evaluate(state, None, 60)
    assert np.mean([h["sr_mse"] for h in history[-5:]]) < 0.85 * np.mean([h["sr_mse"] for h in history[:5]])
    assert found.scalars["val/psnr_face_box"] > before["val/psnr_face_box"] + 3.0
    assert found.scalars["val/psnr_face_box"] > found.scalars["val/psnr_face_box_bicubic"] + 0.3
    assert found.images["val/truth_ours_difference_depth"].shape == (32, 128, 3)


@pytest.mark.parametrize("variant", ["demo", "reference"])
def test_two_steps_of_each_variant_with_every_loss(dataset, variant, tmp_path):
    picture = jnp.zeros((1, 32, 32, 3))
    tree = Lpips("alex").init(jax.random.key(0), picture, picture)["params"]
    flat = {"/".join(key.key for key in path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    # The small picture has 16 pixels per side, fewer than the network can look at.
    loss = {"perceptual_start": 1, "perceptual_small": 0.0, "perceptual_large": 0.1, "perceptual_lips": 0.1, "ambient_rate": 0.01}
    perceptual = {"net": "alex", "weights": str(save_lpips(tmp_path / "lpips_alex.npz", flat)), "lip_side": 32}
    _, history = run(HeadSrStage(config_for(dataset, variant, loss=loss, perceptual=perceptual)), 2)
    assert history[0]["lpips_large"] == 0 < history[1]["lpips_large"] and history[1]["lpips_lips"] == pytest.approx(
        history[1]["lpips_large"]
    )
    assert all(np.isfinite(list(metrics.values())).all() for metrics in history)
    assert history[1]["ambient_weight"] > history[0]["ambient_weight"], "the loss is above its target, so it weighs more"


def test_begins_as_a_plain_enlargement(dataset):
    stage = HeadSrStage(config_for(dataset))
    state = stage.init(jax.random.key(0))
    picture = jnp.asarray(np.random.default_rng(0).random((1, 16, 16, 3)), jnp.float32)
    large = stage.network.apply({"params": state["params"]["super_resolution"], "constants": state["constants"]}, picture)
    np.testing.assert_allclose(large, upsample_image(picture), atol=1e-6)


def test_goes_on_from_a_trained_head_and_refuses_another_size(dataset, tmp_path):
    stage = HeadSrStage(config_for(dataset))
    own = stage.init(jax.random.key(3))
    grid = jnp.where(own["occupancy"]["grid"] < 0, -1.0, 7.0)
    config = stage.config.copy_and_resolve_references()
    checkpoints.save(tmp_path / "head", 5, {"params": own["params"]["head"], "occupancy": {"grid": grid}}, {"config": config})
    again = HeadSrStage(config_for(dataset, data={"head": str(tmp_path / "head")})).init(jax.random.key(0))
    np.testing.assert_array_equal(again["occupancy"]["grid"], grid)
    for x, y in zip(jax.tree.leaves(own["params"]["head"]), jax.tree.leaves(again["params"]["head"]), strict=True):
        np.testing.assert_array_equal(x, y)
    wider = config_for(dataset, data={"head": str(tmp_path / "head")}, model={"hidden": 24})
    with pytest.raises(InputError, match="other sizes"):
        HeadSrStage(wider).init(jax.random.key(0))


def test_a_network_of_another_size_than_the_dataset_is_refused(dataset):
    with pytest.raises(InputError, match="--size 64"):
        HeadSrStage(config_for(dataset, super_resolution={"size": 32}))


def test_halving_takes_means_and_crops_are_not_transposed():
    picture = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    means = picture.reshape(2, 2, 2, 3, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(halved(picture), means, atol=0.5)
    crop = crops(jnp.asarray(picture), jnp.array([[1, 3], [2, 0]]), 2)
    np.testing.assert_array_equal(crop, [picture[0, 1:3, 3:5], picture[1, 2:4, 0:2]])


def test_the_adaptive_weight_follows_the_decades_and_survives_a_broken_loss():
    weight = lambda loss, start=1.0: float(adapted_weight(jnp.float32(start), jnp.float32(loss), 1e-8, 0.01, 1000.0))  # noqa: E731
    assert weight(1e-6) == pytest.approx(1.02) and weight(1e-9) == pytest.approx(0.99) and weight(1e-8) == pytest.approx(1.0)
    assert weight(np.nan) == 1.0 and weight(1e-9, 0.0) == 0.0 and weight(1.0, 1000.0) == 1000.0
