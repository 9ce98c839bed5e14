"""Runs of several processes: how they are named, that two are as good as one, and that none waits for a lost one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import checkpoints
from geneface_jax.training.devices import LOST_EXIT, Cluster, cluster_from_environment
from geneface_jax.training.reporting import read_metrics

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("COORDINATOR", "PROCESSES", "PROCESS"):
        monkeypatch.delenv(f"GENEFACE_{name}", raising=False)


def test_a_cluster_is_named_by_flags_or_environment(monkeypatch):
    assert cluster_from_environment() is None
    assert cluster_from_environment("auto") == Cluster()
    assert cluster_from_environment("node0:1234", 4, 3) == Cluster("node0:1234", 4, 3)
    monkeypatch.setenv("GENEFACE_COORDINATOR", "node0:1234")
    monkeypatch.setenv("GENEFACE_PROCESSES", "2")
    monkeypatch.setenv("GENEFACE_PROCESS", "1")
    assert cluster_from_environment() == Cluster("node0:1234", 2, 1)
    assert cluster_from_environment(process=0) == Cluster("node0:1234", 2, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((None, 2, 0), "--processes and --process need --coordinator"),
        (("node0:1", None, 0), "--coordinator needs --processes too"),
        (("node0:1", 2, None), "--coordinator needs --process too"),
        (("node0:1", 2, 2), "--process is 2 of --processes 2: number them from 0 to 1"),
        (("node0", 2, 0), "write HOST:PORT"),
    ],
)
def test_half_named_clusters_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        cluster_from_environment(*arguments)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(workdir, process=None, port=0, *, devices=1, steps=40, seconds=0.0):
    """The toy run, or one of two processes of it."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    if process is not None:
        environment |= {"GENEFACE_COORDINATOR": f"127.0.0.1:{port}", "GENEFACE_PROCESSES": "2", "GENEFACE_PROCESS": str(process)}
    command = [sys.executable, str(ROOT / "tests" / "toy_stage.py"), str(workdir), str(steps), "10", str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path):
    one, two, port = tmp_path / "one", tmp_path / "two", free_port()
    processes = [start(two, process, port) for process in (0, 1)]
    outputs = [process.communicate(timeout=170)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "40 steps on 2 cpu device(s)" in outputs[0] and "toy:" not in outputs[1], "one process speaks"
    assert start(one, devices=2).wait(timeout=170) == 0
    a, b = (checkpoints.read_arrays(workdir) for workdir in (one, two))
    assert a[1] == b[1] == 40 and a[0].keys() == b[0].keys()
    for name, value in a[0].items():
        np.testing.assert_allclose(b[0][name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert [row["step"] for row in read_metrics(two) if "tr/loss" in row] == list(range(5, 41, 5)), "one process writes"


@contextlib.contextmanager
def two_at_work(workdir):
    """Two processes of an endless run that have saved a checkpoint; killed at the end of the block."""
    port = free_port()
    processes = [start(workdir, process, port, steps=100_000, seconds=0.01) for process in (0, 1)]
    try:
        deadline = time.monotonic() + 120
        while not checkpoints.steps(workdir):
            assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
            time.sleep(0.1)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_within_a_minute(tmp_path, lost):
    with two_at_work(tmp_path) as processes:
        processes[lost].kill()
        killed = time.monotonic()
        output = processes[1 - lost].communicate(timeout=90)[0]
        assert time.monotonic() - killed < 60
        # Of a lost process 0 it is JAX that tells, and may do so first.
        said_by_us = processes[1 - lost].returncode == LOST_EXIT and "lost another one of this run" in output
        assert said_by_us or (lost == 0 and "another task died" in output), output


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_one_step(tmp_path):
    with two_at_work(tmp_path) as processes:
        processes[1].terminate()
        outputs = [process.communicate(timeout=90)[0] for process in processes]
        assert [process.returncode for process in processes] == [143, 143], outputs
        assert checkpoints.steps(tmp_path)[-1] % 10 == 0 and checkpoints.damage(tmp_path, checkpoints.steps(tmp_path)[-1]) is None
