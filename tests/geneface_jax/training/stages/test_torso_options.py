"""The torso's switches on a synthetic person with an untrained head: a gray cloud where its masks are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.weights import head_fingerprint
from geneface_jax.training import devices
from geneface_jax.training.field_base import FrozenHead
from geneface_jax.training.loop import train
from geneface_jax.training.stages import head, torso
from tests.synthetic_subject import tiny_field_config, write_subject


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    folder = tmp_path_factory.mktemp("person")
    dataset = write_subject(folder / "dataset")
    config = tiny_field_config(configs.load("head:demo"), dataset)
    stage = head.HeadStage(config)
    config, state = stage.config, stage.init(jax.random.key(0))
    grid = state["occupancy"]["grid"]
    state = {"params": state["params"], "occupancy": {"grid": jnp.where(grid >= 0, 2.0 * config.march.density_threshold, grid)}}
    configs.save(config, folder / "head")
    checkpoints.save(folder / "head", 1, state, {"config": config, "metrics": {}})
    return folder


def make(person, **changes):
    config = tiny_field_config(configs.load("torso:demo"), person / "dataset")
    config.train.update({"steps": 2, "log_every": 1, "eval_every": 0, "save_every": 0})
    config.loss.update({"composite": 0.0, "hidden": 1.0})
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


@pytest.mark.parametrize(
    "changes",
    [
        {"model__condition": "jaw"},
        {"model__condition": "jaw", "model__head_aware": True, "loss__composite": 1.0, "data__neck_share": 0.3, "loss__hidden": 0.2},
        {"model__condition": "pose", "model__head_aware": True},
    ],
    ids=["jaw", "everything", "pose and head"],
)
def test_every_switch_trains_and_comes_back(person, changes, tmp_path):
    config = make(person, **changes)
    train(config, tmp_path / "torso")
    saved = checkpoints.load(tmp_path / "torso")
    assert saved.step == 2
    assert ("head_encoder" in saved.state["params"]) == config.model.head_aware
    if config.model.head_aware or config.loss.composite:
        assert saved.config.head.fingerprint == head_fingerprint(checkpoints.load(person / "head").state["params"])
        assert saved.config.head.codes == saved.config.model.codes
        assert saved.metrics["val/psnr_neck"] > 0


def test_head_encoder_is_trained(person):
    stage = torso.TorsoStage(make(person, model__head_aware=True))
    state = stage.init(jax.random.key(0))
    before = jax.tree.map(np.asarray, state["params"]["head_encoder"])
    state, data = devices.replicate(state), devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    state, _ = step_fn(state, data, devices.shard(stage.host_batch(0)), jax.random.key(1), jnp.int32(0))
    after = devices.unreplicate(state)["params"]["head_encoder"]
    moved = [float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
    assert min(moved) > 0.0


def test_the_head_is_seen_where_its_masks_are(person):
    stage = torso.TorsoStage(make(person, loss__composite=1.0))
    batch = stage.host_batch(0)
    head_rgba = np.asarray(stage.head.render(stage.head.arrays(), jnp.asarray(batch["frame"]), jnp.asarray(batch["pixels"])))
    assert head_rgba.shape == (*batch["pixels"].shape[:2], 4) and 0.0 <= head_rgba[..., 3].min() and head_rgba[..., 3].max() <= 1.0 + 1e-5
    on_head = batch["head_mask"] == 255
    assert head_rgba[..., 3][on_head].min() > 0.1 and head_rgba[..., 3][~on_head].mean() < 0.7 * head_rgba[..., 3][on_head].mean()
    assert batch["composite"].shape == batch["target"].shape


def test_a_torso_without_its_head_says_what_to_do(person, tmp_path):
    with pytest.raises(InputError, match="train the head first"):
        torso.TorsoStage(make(person, loss__composite=1.0, data__head=str(tmp_path / "nothing")))


def test_a_head_of_another_dataset_is_refused(person, tmp_path):
    write_subject(tmp_path / "dataset", frames=33)
    config = make(person, loss__composite=1.0, data__head=str(person / "head"))
    config.data.subject = str(tmp_path / "dataset")
    with pytest.raises(InputError, match="20 frames.*30 training frames"):
        torso.TorsoStage(config)


def test_a_config_of_another_head_names_what_differs(person):
    config = make(person, model__head_aware=True)
    with config.unlocked():
        config.head = FrozenHead(person / "head", torso.TorsoStage(config).subject).record
        config.head.fingerprint = "0123456789abcdef"
    with pytest.raises(InputError, match="fingerprint 0123456789abcdef there"):
        torso.TorsoStage(config)
