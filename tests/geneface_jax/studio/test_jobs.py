"""Training from the page: one job at a time, consent first, stopped and gone on with, also by a studio started later."""

import argparse
import dataclasses
import json
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

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


def folder_content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else None


def test_a_refused_job_leaves_nothing_and_replaces_no_video(runner, tmp_path, monkeypatch):
    (old := tmp_path / "old.mp4").write_bytes(b"old video")
    (new := tmp_path / "new.mp4").write_bytes(b"new video")
    carl = Job("carl", "prepare", "source.mp4", 256)
    runner.child = {"wait": True, "code": 0}
    runner.start(carl, old)
    assert (tmp_path / "carl" / "source.mp4").read_bytes() == b"old video"
    # While it runs: the same person, another one, and another studio.
    for studio, job in ((runner, carl), (runner, Job("dora", "prepare", "source.mp4", 256)), (JobRunner(tmp_path), carl)):
        with pytest.raises(InputError, match=r"still running|Another studio"):
            studio.start(job, new)
    assert (tmp_path / "carl" / "source.mp4").read_bytes() == b"old video" and not (tmp_path / "dora").exists()
    runner.stop(10)
    # Nothing runs, but the process can't be started, or the record can't be written.
    before = folder_content(tmp_path / "carl")
    for broken in ("_launch", "_save"):
        with monkeypatch.context() as patch:
            patch.setattr(JobRunner, broken, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            for job in (carl, Job("dora", "prepare", "source.mp4", 256)):
                with pytest.raises(InputError, match="disk"):
                    runner.start(job, new)
        assert folder_content(tmp_path / "carl") == before and not (tmp_path / "dora").exists()
    with pytest.raises(InputError, match="exists already"):
        runner.start(Job("anna", "prepare", "source.mp4", 256), new)
    assert not list((tmp_path / "anna").iterdir())
    runner.child = {"wait": False, "code": 0}
    runner.start(carl, new)
    assert ended(runner, "carl").state == "finished"
    assert (tmp_path / "carl" / "source.mp4").read_bytes() == b"new video" and "old" not in str(folder_content(tmp_path / "carl"))


def test_a_studio_killed_while_it_replaced_a_video_is_put_right(runner, tmp_path):
    (new := tmp_path / "new.mp4").write_bytes(b"new video")
    carl = Job("carl", "prepare", "source.mp4", 256)
    runner.start(carl, new)
    ended(runner, "carl")
    folder = tmp_path / "carl"
    for state, kept in (("stopped", b"new video"), ("running", b"newer video")):
        (folder / "source.mp4").rename(folder / ".previous-source.mp4")
        (folder / "source.mp4").write_bytes(b"newer video")
        runner._save(dataclasses.replace(carl, state=state))
        runner.start(carl)
        ended(runner, "carl")
        assert (folder / "source.mp4").read_bytes() == kept and not list(folder.glob(".*"))


def test_of_many_starts_at_once_one_runs(runner, tmp_path):
    (video := tmp_path / "new.mp4").write_bytes(b"video")
    runner.child = {"wait": True, "code": 0}

    def start(number):
        try:
            return runner.start(Job(f"p{number}", "prepare", "source.mp4", 256), video).state
        except InputError:
            return None

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(start, range(6))).count("running") == 1
    assert len(list(tmp_path.glob("p*"))) == 1


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", '{"name": "bert"}', '{"name": 5, "kind": "prepare", "video": "x", "size": 1}', b"\xff", "[" * 100_000]
    + ['{"name": "anna", "kind": "prepare", "video": 7, "size": 256}', '{"name": "bert", "kind": "prepare", "video": "x", "size": 256}']
    + ['{"name": "anna", "kind": "rm", "video": "x", "size": 256}', '{"name": "anna", "kind": "fit", "video": "x", "size": "256"}'],
    ids=range(11),
)
def test_a_damaged_record_hides_no_other_job(runner, tmp_path, content):
    (tmp_path / "anna" / "studio.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "bert").mkdir()
    runner.start(Job("bert", "prepare", "source.mp4", 256))
    assert ended(runner, "bert").state == "finished"
    assert [job.name for job in runner.jobs()] == ["bert"]
    runner.start(PREPARE)  # made anew
    assert ended(runner).state == "finished"


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


@pytest.mark.parametrize("damaged", ["dataset/report.json", "head/metrics.jsonl", "head/tensorboard/events.out.tfevents.1", "studio.json"])
def test_a_damaged_file_of_a_job_does_not_break_the_train_tab(tmp_path, damaged):
    gradio = pytest.importorskip("gradio")
    from geneface_jax.studio.i18n import Labels
    from geneface_jax.studio.people import PersonList
    from geneface_jax.studio.render_queue import Context
    from geneface_jax.studio.security import Limits
    from geneface_jax.studio.train_tab import TrainTab
    from geneface_jax.studio.uploads import SessionFolder

    folder = tmp_path / "people" / "anna"
    for name in ("dataset", "head/tensorboard"):
        (folder / name).mkdir(parents=True)
    (folder / "studio.json").write_text(json.dumps(dataclasses.asdict(dataclasses.replace(FIT, state="failed", code=1))))
    (folder / "head" / "metrics.jsonl").write_text('{"step": 1, "val/psnr": 20.0}\n{"step": 2, "val/psnr": 21.0}\n')
    # The last one is a record of events whose length is 2^56.
    (folder / damaged).write_bytes(b'{"\xff\xff\xff\xff\xff\x01' * 3)
    with SessionFolder(tmp_path) as workspace, gradio.Blocks():
        context = Context(PersonList(folder.parent), workspace, Limits())
        tab = TrainTab(context, Labels(), gradio.Radio(), JobRunner(folder.parent))
        state, *_ = tab._refresh("English", "anna")
    assert "studio-" in state


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("size", value) for value in ("256", 10**9, None)),
        *{"name": "../ben", "video": "../../secret", "state": "done", "kind": "rm", "code": 1.5}.items(),
    ],
)
def test_a_damaged_job_is_left_out_and_logged(runner, tmp_path, caplog, field, value):
    runner.start(PREPARE)
    assert ended(runner).name == "anna"
    path = tmp_path / "anna" / "studio.json"
    record = {name: value for name, value in json.loads(path.read_text()).items() if name != "checksum"}
    path.write_text(json.dumps(record))
    assert [job.name for job in runner.jobs()] == ["anna"], "files of older versions have no checksum"
    path.write_text(json.dumps(record | {field: value}))
    assert runner.jobs() == [] and "studio.json" in caplog.text


def test_a_flipped_bit_of_a_job_is_told(runner, tmp_path, caplog):
    runner.start(dataclasses.replace(FIT, consent="Anna, today"))
    ended(runner)
    path = tmp_path / "anna" / "studio.json"
    path.write_text(path.read_text().replace("Anna, today", "Anna, toda9"))
    assert runner.jobs() == [] and "doesn't hold what was written" in caplog.text


def test_damaged_event_files_show_what_is_left(tmp_path):
    workdir = tmp_path / "anna" / "head"
    workdir.mkdir(parents=True)
    summaries = Summaries(workdir, 0)
    summaries._board.add_image("val/picture", np.full((8, 8, 3), 9, np.uint8), 3, dataformats="HWC")
    summaries.close()
    (path,) = workdir.glob("tensorboard/events*")
    whole = path.read_bytes()
    assert len(sample_pictures(tmp_path / "anna", "head")) == 1
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + b"\xff\xff\xff\xff\xff\xff\xff\x7f" + whole[at + 8 :])
        assert len(sample_pictures(tmp_path / "anna", "head")) <= 1
