"""NaN recovery: back to the checkpoint at a lower rate, at most three times, then an error."""

from __future__ import annotations

import numpy as np
import pytest
from ml_collections import ConfigDict
from toy_stage import ToyStage, toy_config

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.loop import train
from geneface_jax.training.recovery import rate_keys, with_rates
from geneface_jax.training.reporting import read_metrics


def test_it_goes_back_at_lower_rates_and_then_names_the_step(tmp_path, capsys):
    rates = []

    def make_stage(config):
        rates.append(config.optimizer.lr)
        return ToyStage(config, nan_at=36)

    config = toy_config(steps=60)
    sentence = r"loss is not finite at step 37 after 3 returns to lower rates: the checkpoint of step 35 .* is sound"
    with pytest.raises(InputError, match=sentence):
        train(config, tmp_path, make_stage=make_stage)
    assert rates == [0.1, 0.05, 0.025, 0.0125]
    assert checkpoints.steps(tmp_path)[-1] == 35
    assert configs.load_saved(tmp_path).optimizer.lr == 0.1, "the config on disk keeps the full rate"
    with pytest.raises(InputError, match="after 3 returns"):
        train(config, tmp_path, make_stage=make_stage)
    assert rates[4:] == [0.0125], "a run that is resumed remembers its returns"


@pytest.mark.parametrize(("broken", "back"), [(36, "step 35"), (1, "the start")])
def test_breaking_once_costs_a_return_and_nothing_else(tmp_path, capsys, broken, back):
    stages = []

    def make_stage(config):
        stages.append(ToyStage(config, nan_at=None if stages else broken))
        return stages[-1]

    train(toy_config(steps=60), tmp_path, make_stage=make_stage)
    message = f"not finite at step {broken + 1}: back to {back} at 0.5 of the learning rate (return 1 of at most 3)"
    assert message in capsys.readouterr().out
    assert stages[1].steps_seen[0] == (35 if back == "step 35" else 0)
    rows = [row for row in read_metrics(tmp_path) if "tr/loss" in row]
    assert [row["step"] for row in rows] == list(range(5, 61, 5)) and all(np.isfinite(row["tr/loss"]) for row in rows)
    assert all(row["tr/update_norm"] > 0 and row["tr/grad_norm"] > 0 and row["tr/param_norm"] > 0 for row in rows)


def test_rates_are_found_wherever_they_lie():
    config = ConfigDict({"lr": 1.0, "optimizer": {"postnet": {"lr": 0.2, "clip": 1.0}}, "pose_refinement": {"lr": 0.0}})
    assert sorted(rate_keys(config)) == ["lr", "optimizer.postnet.lr", "pose_refinement.lr"]
    lowered = with_rates(config, config, 0.5)
    assert (lowered.lr, lowered.optimizer.postnet.lr, lowered.optimizer.postnet.clip, lowered.pose_refinement.lr) == (0.5, 0.1, 1.0, 0.0)
    assert with_rates(lowered, config, 1.0) == config


def test_without_a_rate_to_lower_it_stops_at_once(tmp_path):
    config = toy_config()
    config.optimizer = ConfigDict({"speed": 0.1})

    class NoRate(ToyStage):
        def __init__(self, config):
            super().__init__(toy_config(), nan_at=3)
            self.config = config

    with pytest.raises(InputError, match=r"loss is not finite at step 4: start again with a smaller learning rate"):
        train(config, tmp_path, make_stage=NoRate)
