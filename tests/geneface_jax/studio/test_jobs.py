"""Training from the page: one job at a time, consent first, stopped and gone on with, also by a studio started later."""

import argparse
import json
import signal
import sys
import time

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.studio.jobs import KINDS, Job, JobRunner, active_stage, curves, report_rows, sample_pictures
from geneface_jax.training.reporting import Summaries

# Stands in for the command: says something, then ends as it is told, at once or by SIGTERM.
CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("step 1\\rstep 2 of /somewhere", flush=True)
if {wait}: time.sleep(60)
print("the video is too dark", flush=True)
sys.exit({code})
"""


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """A job runner whose jobs are the child above; `runner.child` says how it behaves."""
    made = JobRunner(tmp_path)
    made.child = {"wait": False, "code": 0}
    (tmp_path / "anna").mkdir()
    monkeypatch.setattr(JobRunner, "_command", lambda self, job, folder: [sys.executable, "-c", CHILD.format(**made.child)])
    yield made
    made.stop(5)


def ended(runner, name="anna"):
    for _ in range(600):
        if runner.job(name).state != "running":
            return runner.job(name)
        time.sleep(0.05)
    raise AssertionError("the job did not end")


PREPARE = Job("anna", "prepare", "source.mp4", 256)
FIT = Job("anna", "fit", "source.mp4", 256, consent="Anna, today")


def test_a_job_runs_ends_and_keeps_what_it_said(runner):
    runner.start(PREPARE)
    assert ended(runner) == Job("anna", "prepare", "source.mp4", 256, "", "finished", 0)
    assert runner.log("anna").splitlines() == ["step 2 of /somewhere", "the video is too dark"]
    runner.child = {"wait": False, "code": 2}
    runner.start(PREPARE)
    assert ended(runner).state == "failed"


def test_one_job_at_a_time_here_and_in_another_studio(runner, tmp_path):
    (tmp_path / "bert").mkdir()
    runner.child = {"wait": True, "code": 0}
    runner.start(PREPARE)
    with pytest.raises(InputError, match="job of anna is still running"):
        runner.start(Job("bert", "prepare", "source.mp4", 256))
    with pytest.raises(InputError, match="Another studio"):
        JobRunner(tmp_path).start(Job("bert", "prepare", "source.mp4", 256))
    runner.stop(10)
    assert runner.job("anna").state == "stopped"
    other = JobRunner(tmp_path)
    assert other.start(PREPARE).state == "running"
    other.stop(10)


def test_nothing_is_trained_without_consent(runner):
    for consent in ("", "  "):
        with pytest.raises(InputError, match="Consent is missing"):
            runner.start(Job("anna", "fit", "source.mp4", 256, consent=consent))
    assert not runner.jobs()


def test_a_killed_studios_job_can_go_on(runner, tmp_path):
    runner.child = {"wait": True, "code": 0}
    runner.start(FIT)
    later = JobRunner(tmp_path)  # knows nothing but the folder
    assert later.job("anna").state == "stopped" and later.job("anna").consent == "Anna, today"
    runner._process.send_signal(signal.SIGKILL)
    runner._process.wait()
    runner.child = {"wait": False, "code": 0}
    later.start(later.job("anna"))
    assert ended(later).state == "finished"


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", ".hidden", "-rf", "a" * 41, "ä", "a b", None, "a\n"])
def test_names_that_no_folder_may_have(runner, name):
    with pytest.raises(InputError, match="name is not allowed"):
        runner.require_free(name)


def test_somebody_elses_folder_is_not_touched(runner, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        runner.require_free("anna")
    runner.start(PREPARE)
    ended(runner)
    assert runner.require_free("anna") == tmp_path / "anna"


def test_the_commands_are_the_ones_of_the_command_line(tmp_path):
    runner = JobRunner(tmp_path, ("--head-steps", "2"))
    words = runner._command(Job("anna", "fit", "../../etc/passwd", 256, consent="--size 9"), tmp_path / "anna")
    assert words[1:6] == ["-P", "-m", "geneface_jax", "fit", str(tmp_path / "anna" / "passwd")]
    from geneface_jax.cli import fit, prepare

    for verb, module in (("fit", fit), ("prepare", prepare)):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        words = runner._command(Job("anna", verb, "source.mp4", 256, consent="--size 9"), tmp_path / "anna")
        args = parser.parse_args(words[5:])
        assert args.out == tmp_path / "anna" and args.size == 256 and getattr(args, "consent", None) in (None, "--size 9")
    assert KINDS == ("prepare", "fit")


def test_what_a_training_looks_like(tmp_path):
    assert active_stage(tmp_path) is None
    (tmp_path / "head").mkdir()
    log = Summaries(tmp_path / "head", 0)
    for step in (10, 20, 30):
        log.scalars(step, {"val/psnr": 20.0 + step, "tr/loss": 1.0 / step, "lonely": np.nan})
    log._board.add_image("val/picture", np.full((8, 12, 3), 200, np.uint8), 30, dataformats="HWC")
    log.close()
    assert active_stage(tmp_path) == "head"
    assert curves(tmp_path, "head").width > 500
    ((picture, label),) = sample_pictures(tmp_path, "head")
    assert picture.size == (12, 8) and picture.getpixel((3, 3)) == (200, 200, 200) and label == "val/picture, step 30"
    # A record that is being written just now is left out.
    (events,) = (tmp_path / "head" / "tensorboard").glob("events*")
    events.write_bytes(events.read_bytes()[:-20])
    assert len(sample_pictures(tmp_path, "head")) <= 1


def test_a_report_becomes_rows(tmp_path):
    assert report_rows(tmp_path) == []
    (tmp_path / "dataset").mkdir()
    report = {"seconds": 61.23456, "frames": 1530, "pose": {"yaw_sd": 4.5}, "warnings": ["dark", "noisy"], "ignored": [1, 2], "none": None}
    (tmp_path / "dataset" / "report.json").write_text(json.dumps(report))
    rows = dict(report_rows(tmp_path))
    assert rows == {"seconds": "61.23", "frames": "1530", "pose: yaw sd": "4.5", "warnings": "dark; noisy"}
