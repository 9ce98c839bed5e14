"""A picture or clip that can't be read ends a run with a sentence that names the file; what was saved stays."""

from __future__ import annotations

import numpy as np
import pytest
from toy_stage import ToyStage, toy_config

from data_tools.errors import InputError
from geneface_jax.io import checkpoints
from geneface_jax.training.loop import train
from tests.synthetic_subject import write_subject
from tests.tiny_stages import tiny_stage


def test_a_truncated_frame_is_named(tmp_path):
    write_subject(tmp_path / "dataset")
    frame = tmp_path / "dataset" / "frames" / "000003.jpg"
    frame.write_bytes(frame.read_bytes()[:100])
    stage = tiny_stage("head", tmp_path, "train.steps=1")
    with pytest.raises(InputError, match=rf"{frame} is missing or damaged"):
        train(stage.config, tmp_path / "head", stage=stage)
    assert checkpoints.steps(tmp_path / "head") == []


def test_a_sample_that_breaks_later_leaves_the_last_checkpoint(tmp_path):
    stage = ToyStage(toy_config())
    whole = stage.host_batch

    def host_batch(step):
        if step == 13:
            raise InputError("the clip clips/ada_1.npz is damaged; prepare it again.")
        return whole(step)

    stage.host_batch = host_batch
    with pytest.raises(InputError, match="ada_1.npz is damaged"):
        train(stage.config, tmp_path, stage=stage)
    assert checkpoints.steps(tmp_path) == [5, 10]
    mended = ToyStage(toy_config())
    train(mended.config, tmp_path, stage=mended)
    assert mended.steps_seen == list(range(10, 20))
    assert np.isfinite(checkpoints.load(tmp_path).state["params"]["w"]).all()
