"""One run a work folder, and curves on a disk that is full."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tensorboardX.event_file_writer import EventsWriter
from toy_stage import ToyStage, toy_config

from data_tools.errors import InputError
from data_tools.locks import LOCK_FILE, hold
from geneface_jax.io import checkpoints
from geneface_jax.training import reporting
from geneface_jax.training.loop import train

ROOT = Path(__file__).resolve().parents[3]


def in_thread(action):
    """Runs it in another thread, which is another run; returns what it raised."""
    raised = []

    def work():
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(tmp_path):
    config = toy_config()
    train(config, tmp_path, stage=ToyStage(config))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with hold(tmp_path, "geneface train"):
        error = in_thread(lambda: train(toy_config(steps=40), tmp_path, stage=ToyStage(toy_config(steps=40))))
    assert isinstance(error, InputError) and "Another run works in" in str(error) and str(os.getpid()) in str(error)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_two_programs_at_once_are_one_run_and_one_sentence(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    command = [sys.executable, str(ROOT / "tests" / "toy_stage.py"), str(tmp_path / "run"), "40", "5", "0.05"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=170)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], outputs
    assert sum("Another run works in" in output for output in outputs) == 1
    assert checkpoints.steps(tmp_path / "run")[-1] == 40 and not (tmp_path / "run" / LOCK_FILE).exists()


def test_a_run_that_lost_its_folder_saves_nothing_more(tmp_path, monkeypatch):
    from geneface_jax.training import devices

    class Lost:
        def require(self):
            raise InputError("The folder was taken over by another run.")

    monkeypatch.setattr(devices, "_lock", Lost())
    with pytest.raises(InputError, match="taken over"):
        devices.require_run()


def test_curves_on_a_full_disk_end_the_run_instead_of_stopping_it_for_ever(tmp_path, monkeypatch):
    summaries = reporting.Summaries(tmp_path, 0)

    def full(self, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EventsWriter, "write_event", full)
    raised = []

    def work():
        try:
            for step in range(50):  # more than tensorboardX's queue holds
                summaries.scalars(step, {"tr/loss": 1.0})
        except OSError as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert raised and raised[0].errno == errno.ENOSPC, "the run waits for a thread that has died"
    summaries.close()


def test_a_disk_error_in_the_curves_is_a_sentence_about_the_folder(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reporting.Summaries, "scalars", full)
    config = toy_config()
    with pytest.raises(InputError, match=f"The disk of {tmp_path}.* is full"):
        train(config, tmp_path / "run", stage=ToyStage(config))
