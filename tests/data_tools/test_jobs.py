"""Jobs survive the death of worker processes."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from data_tools.errors import InputError
from data_tools.jobs import MAX_TRIES, run_jobs


def write(job, tick):
    """The job of these tests: writes a file, perhaps after dying, failing or reporting bad input."""
    path, action = job
    marker = Path(f"{path}.tried")
    tries = int(marker.read_text()) if marker.exists() else 0
    marker.write_text(str(tries + 1))
    if action == "dies once" and tries == 0 or action == "always dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "refuses":
        raise InputError("this input is bad.")
    if action == "fills the disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    if action == "fails":
        raise ValueError("a bug")
    if action == "waits":
        time.sleep(60.0)
    tick(5)
    Path(path).write_text(str(os.getpid()))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_and_counted(tmp_path, workers):
    ticks: list[int] = []
    run_jobs(write, [(str(tmp_path / str(i)), "") for i in range(5)], workers, ticks.append)
    processes = {int((tmp_path / str(i)).read_text()) for i in range(5)}
    assert sum(ticks) == 25
    assert processes == {os.getpid()} if workers == 1 else os.getpid() not in processes and len(processes) <= 2


def test_a_worker_that_is_killed_is_noticed_and_its_job_done_by_another(tmp_path):
    start = time.monotonic()
    run_jobs(write, [(str(tmp_path / "a"), "dies once"), (str(tmp_path / "b"), ""), (str(tmp_path / "c"), "")], 2, lambda n: None)
    assert all((tmp_path / name).exists() for name in "abc")
    assert (tmp_path / "a.tried").read_text() == "2"
    assert time.monotonic() - start < 10.0 + 20.0  # noticed at once; the rest is starting processes on a busy machine


def test_a_job_that_kills_every_worker_is_given_up_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="--workers 1"):
        run_jobs(write, [(str(tmp_path / "a"), "always dies"), (str(tmp_path / "b"), "")], 2, lambda n: None)
    assert int((tmp_path / "a.tried").read_text()) == MAX_TRIES


@pytest.mark.parametrize(
    ("action", "error", "text"),
    [("refuses", InputError, "this input is bad"), ("fills the disk", OSError, "No space"), ("fails", RuntimeError, "ValueError: a bug")],
)
def test_what_goes_wrong_in_a_worker_arrives(tmp_path, action, error, text):
    with pytest.raises(error, match=text) as caught:
        run_jobs(write, [(str(tmp_path / "a"), action), (str(tmp_path / "b"), "")], 2, lambda n: None)
    assert action != "fills the disk" or caught.value.errno == errno.ENOSPC


def test_ctrl_c_ends_the_workers(tmp_path):
    """SIGINT to this process while a worker sleeps: the exception arrives and no process stays."""

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(write, [(str(tmp_path / "a"), ""), (str(tmp_path / "b"), "waits")], 2, interrupt)
    import multiprocessing

    assert not multiprocessing.active_children()
