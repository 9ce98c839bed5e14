"""Sweeps: which runs, what their table says, and refusing a wrong key before anything is trained."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.training import sweep


def make(**fields):
    config = ConfigDict(convert_dict=False)
    plain = {"base": "head:demo", "seeds": (0, 1), "metrics": ("val/psnr", "tr/loss"), **fields}
    for key, value in plain.items():
        config[key] = value
    return config


def test_a_grid_is_every_combination_with_every_seed():
    found = sweep.trials(make(grid={"optimizer.lr": (1e-3, 2e-3), "model.hidden": (32, 64)}, overrides={"train.steps": 5}), ["data.rays=8"])
    assert len({trial.name for trial in found}) == 8 and found[0].name == "lr=0.001,hidden=32/seed0"
    assert found[1].overrides == ("train.steps=5", "data.rays=8", "optimizer.lr=0.001", "model.hidden=32", "seed=1")


def test_what_is_wrong_is_refused_before_hours_are_spent():
    with pytest.raises(InputError, match="did you mean --config.optimizer.lr"):
        sweep.trials(make(grid={"optimiser.lr": (1e-3,)}))
    with pytest.raises(InputError, match="not of the key's type int"):
        sweep.trials(make(runs={"wide": {"model.hidden": "broad"}}))
    for fields in ({}, {"grid": {"seed": (1,)}, "runs": {"a": {}}}):
        with pytest.raises(InputError, match="either a grid or runs"):
            sweep.trials(make(**fields))


@pytest.mark.parametrize("name", ["head_grid", "syncnet_list"])
def test_the_committed_sweeps_are_well_formed(name):
    assert len(sweep.trials(configs.load(f"configs/ablations/{name}.py"))) == 12


def test_the_table_has_means_and_deviations_of_finished_runs(tmp_path):
    chosen = make(runs={"a": {}, "b": {"model.hidden": 32}}, overrides={"train.steps": 4})
    for name, step, psnr in (("a/seed0", 4, 20.0), ("a/seed1", 4, 22.0), ("b/seed0", 4, 30.0), ("b/seed1", 2, 99.0)):
        checkpoints.save(tmp_path / name, step, {"params": {"w": np.zeros(1)}}, {})
        (tmp_path / name / "metrics.jsonl").write_text(f'{{"step": 1, "val/psnr": 1}}\n{{"step": {step}, "val/psnr": {psnr}}}\n')
    table, text = sweep.summarize(chosen, tmp_path)
    rows = list(csv.reader(table.open()))
    assert rows[0] == ["variant", "seeds", "val/psnr mean", "val/psnr sd", "tr/loss mean", "tr/loss sd"]
    assert rows[1][:2] == ["a", "2"] and float(rows[1][2]) == 21.0 and float(rows[1][3]) == pytest.approx(np.sqrt(2.0))
    assert rows[2] == ["b", "1", "30.0", "", "", ""]
    assert "| a | 2 | 21 ± 1.4 | - |" in text.read_text() and "| b | 1 | 30 | - |" in text.read_text()


def test_runs_fill_the_slots_and_failures_are_named(tmp_path, monkeypatch):
    seen = []

    def train(base, trial, workdir, slot, running):
        seen.append((trial.name, slot))
        return 2 if trial.variant == "b" else 0

    monkeypatch.setattr(sweep, "_train", train)
    lines = []
    failed = sweep.run(make(runs={"a": {}, "b": {}}), tmp_path, ["0", "1"], log=lines.append)
    assert sorted(name for name, _ in seen) == ["a/seed0", "a/seed1", "b/seed0", "b/seed1"] and {slot for _, slot in seen} <= {"0", "1"}
    assert failed == ["b/seed0", "b/seed1"] and "b/seed0: failed with exit code 2" in lines


def test_ctrl_c_ends_the_running_trials_and_begins_no_other(tmp_path, monkeypatch):
    begun = []

    def train(base, trial, workdir, slot, running):
        begun.append(trial.name)
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
            running.add(process)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            return process.wait()

    monkeypatch.setattr(sweep, "_train", train)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(make(runs={"a": {}}, overrides={"train.steps": 4}), tmp_path, [""])
    assert begun == ["a/seed0"] and not list(tmp_path.iterdir()), "and its lock is gone"
