"""The live stage: learns the motion of its corpora from sound that has been, at the scale it is given."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints
from geneface_jax.training.loop import train
from geneface_jax.training.stage import get_stage
from tests.tiny_stages import tiny_config, write_data

SHORT = ("train.steps=60", "train.eval_every=0", "train.save_every=0", "optimizer.warmup=1", "optimizer.lr=0.01")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("live"))


def test_it_learns_to_move_with_the_sound(folder, tmp_path):
    config = tiny_config("audio2motion_live", folder, *SHORT, "data.augment.enabled=false", "eval_video.frames=0")
    metrics = checkpoints.load(train(config, tmp_path / "live")).metrics
    assert metrics["val/lmd_ratio"] < 0.8 and metrics["val/mouth_correlation"] > 0.7, metrics


def test_sound_beyond_the_clip_counts_for_nothing(folder):
    """Frames that wait for sound after the clip's end are left out, as padding is."""
    stage = get_stage(tiny_config("audio2motion_live", folder, "data.augment.enabled=false", "loss.mse_upper=1.0"))
    state, batch = jax.device_get(stage.init(jax.random.key(0))), stage.host_batch(0)
    batch["mask"][:, 10:] = 0.0
    delay, step = stage.config.model.delay, _step(stage)
    loss = step(state, batch)
    batch["motion"][:, 10 - delay :] = 7.0
    assert step(state, batch) == pytest.approx(loss)
    batch["motion"][:, 9 - delay] = 7.0
    assert step(state, batch) > loss


def _step(stage):
    def step(state, batch):
        one = jax.tree.map(lambda x: np.asarray(x)[None], (state, batch))
        mapped = jax.pmap(lambda state, batch: stage.train_step(state, (), batch, jax.random.key(0), 0)[1]["mse"], axis_name="devices")
        return float(mapped(*one)[0])

    return step


def test_the_scale_is_that_of_the_network_it_starts_from(folder):
    measured = get_stage(tiny_config("audio2motion_live", folder)).constants["motion_std"][0]
    given = get_stage(tiny_config("audio2motion_live", folder, f"data.scale={2 * float(measured)}"))
    assert given.constants["motion_std"][0] == pytest.approx(2 * measured)
    rms = [
        float(np.std(get_stage(tiny_config("audio2motion_live", folder)).pairs["train"][0].motion)),
        float(np.std(given.pairs["train"][0].motion)),
    ]
    assert rms[1] == pytest.approx(rms[0] / 2, rel=1e-4)


def test_a_window_shorter_than_the_delay_is_refused(folder):
    with pytest.raises(InputError, match="model.delay"):
        get_stage(tiny_config("audio2motion_live", folder, "data.window=3"))
