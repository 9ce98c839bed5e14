"""The loop: one trace, resuming to the same bits, stopping well, refusing what is broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from toy_stage import ToyStage, toy_config

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs, restore
from geneface_jax.training.loop import train
from geneface_jax.training.recovery import TrainingStopped
from geneface_jax.training.reporting import read_metrics
from geneface_jax.training.stage import Phase

ROOT = Path(__file__).resolve().parents[3]


def final_state(workdir):
    stage = ToyStage(toy_config())
    return restore.resume(workdir, stage.init(jax.random.key(0)))[:2]


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype and x.tobytes() == y.tobytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    stage = ToyStage(toy_config())
    train(stage.config, workdir, stage=stage)
    return workdir, stage


def test_learns_in_one_trace(undisturbed):
    workdir, stage = undisturbed
    assert stage.traces == 1
    assert stage.steps_seen == list(range(20))
    losses = [row["tr/loss"] for row in read_metrics(workdir) if "tr/loss" in row]
    assert losses[-1] < losses[0]


def test_leaves_what_the_formats_promise(undisturbed):
    workdir, _ = undisturbed
    assert configs.load_saved(workdir) == toy_config()
    assert list((workdir / "tensorboard").iterdir())
    rows = read_metrics(workdir)
    assert [row["step"] for row in rows if "tr/loss" in row] == [5, 10, 15, 20]
    assert [row["step"] for row in rows if "val/error" in row] == [10, 20]
    checkpoint = checkpoints.load(workdir)
    assert checkpoint.step == 20 and set(checkpoint.state) == {"params", "batch_stats"}
    assert checkpoint.metrics["val/error"] == pytest.approx(rows[-1]["val/error"])


@pytest.mark.parametrize("stop", [5, 13])
def test_resuming_gives_the_same_bits(undisturbed, tmp_path, stop):
    first = toy_config(steps=stop)
    train(first, tmp_path, stage=ToyStage(first))
    assert checkpoints.steps(tmp_path)[-1] == stop
    second = ToyStage(toy_config())
    train(second.config, tmp_path, stage=second)
    assert second.steps_seen == list(range(stop, 20))
    assert_same_bits(final_state(tmp_path), final_state(undisturbed[0]))


def test_a_finished_run_is_left_alone(undisturbed):
    workdir, _ = undisturbed
    before = (workdir / "metrics.jsonl").read_bytes()
    stage = ToyStage(toy_config())
    train(stage.config, workdir, stage=stage)
    assert stage.traces == 0 and (workdir / "metrics.jsonl").read_bytes() == before


def test_sigterm_saves_and_stops_and_the_run_resumes_to_the_same_bits(undisturbed, tmp_path):
    stage = ToyStage(toy_config(save_every=0), signal_at=9)
    with pytest.raises(TrainingStopped, match="resumes it from there") as stopped:
        train(stage.config, tmp_path, stage=stage)
    assert stopped.value.exit_code == 143 and isinstance(stopped.value, KeyboardInterrupt)
    assert 0 < stopped.value.step == checkpoints.steps(tmp_path)[-1] < 20
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(toy_config(), tmp_path, stage=ToyStage(toy_config()))
    assert_same_bits(final_state(tmp_path), final_state(undisturbed[0]))


def test_another_network_in_the_same_folder_is_refused(undisturbed):
    workdir, _ = undisturbed
    other = toy_config(steps=30)
    other.model.width = 4
    before = configs.load_saved(workdir)
    with pytest.raises(InputError, match=r"params/w: .* float32\[3, 2\], this run expects float32\[4, 2\]"):
        train(other, workdir, stage=ToyStage(other))
    assert configs.load_saved(workdir) == before


def test_a_changed_config_is_told(undisturbed, tmp_path, capsys):
    first = toy_config(steps=5)
    train(first, tmp_path, stage=ToyStage(first))
    second = toy_config(steps=6)
    second.optimizer.lr = 0.05
    train(second, tmp_path, stage=ToyStage(second))
    assert "optimizer.lr: 0.1 -> 0.05" in capsys.readouterr().out


def test_a_run_of_an_earlier_version_resumes_with_its_draw(tmp_path, capsys):
    """The stage is made from the config as the run began, also when it resumes twice."""
    train(toy_config(steps=5), tmp_path, make_stage=ToyStage)
    seen = []

    def make_stage(config):
        seen.append(config.data.draw)
        return ToyStage(config)

    for steps in (10, 15):
        later = toy_config(steps=steps)
        with later.unlocked():
            later.data = ConfigDict({"draw": "length"})
        train(later, tmp_path, make_stage=make_stage)
        assert configs.load_saved(tmp_path).data.draw == "starts"
        assert "config.data.draw stays 'starts'" in capsys.readouterr().out
    assert seen == ["starts", "starts"]


def test_a_phase_that_a_short_run_never_reaches_is_told_at_the_start(tmp_path, capsys):
    class Late(ToyStage):
        def phases(self):
            steps = self.config.train.steps
            return [Phase(key, start, start, steps, steps * 4 // 5, "lips") for key, start in (("early.start", 4), ("late.start", 200_000))]

    train(toy_config(steps=5), tmp_path, make_stage=Late)
    said = capsys.readouterr().out
    sentence = "config.late.start is 200,000 but there are only 5 updates, so this run has no lips: give --config.late.start=4 to have it"
    assert said.count(sentence) == 1 and "early" not in said
    assert said.index(sentence) < said.index("the first one compiles")


def test_an_error_in_the_data_reaches_the_caller(tmp_path):
    stage = ToyStage(toy_config())

    def host_batch(step):
        raise InputError("frame 3 is unreadable: prepare it again.")

    stage.host_batch = host_batch
    with pytest.raises(InputError, match="frame 3"):
        train(stage.config, tmp_path, stage=stage)


def start(workdir, *, devices=1, steps=400, save_every=20, seconds=0.01):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, str(ROOT / "tests" / "toy_stage.py"), str(workdir), str(steps), str(save_every), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, seconds=0).wait(timeout=120) == 0
    for wanted in (60, 200):
        process = start(killed)
        deadline = time.monotonic() + 120
        while (checkpoints.steps(killed) or [0])[-1] < wanted:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait()
    assert start(killed).wait(timeout=120) == 0
    assert_same_bits(final_state(killed), final_state(whole))
    steps = [row["step"] for row in read_metrics(killed) if "tr/loss" in row]
    assert steps == sorted(set(steps)), "a step stands twice in metrics.jsonl"


@pytest.mark.slow
def test_eight_devices_agree_with_one(tmp_path):
    one, eight = tmp_path / "one", tmp_path / "eight"
    assert start(one, steps=20, seconds=0).wait(timeout=120) == 0
    assert start(eight, steps=20, seconds=0, devices=8).wait(timeout=120) == 0
    a, b = final_state(one)[0], final_state(eight)[0]
    np.testing.assert_allclose(a["params"]["w"], b["params"]["w"], rtol=1e-5, atol=1e-6)
