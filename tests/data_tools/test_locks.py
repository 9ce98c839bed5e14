"""One writer a folder: who is refused, what is taken over, and that no host is judged by another one's process numbers."""

import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from data_tools import locks
from data_tools.errors import InputError
from data_tools.io import atomic_folder
from data_tools.locks import LOCK_FILE, STALE_SECONDS, Holder, Lock, hold, join


def left_by(folder, seconds=0.0, **changes):
    """Writes the lock of another run, silent for so many seconds."""
    folder.mkdir(exist_ok=True)
    path = folder / LOCK_FILE
    holder = dataclasses.replace(Holder.this_process("geneface train"), **changes)
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_run_is_refused_with_who_holds_it(tmp_path):
    refused = []

    def second():
        with pytest.raises(InputError) as raised, hold(tmp_path, "geneface train"):
            pass
        refused.append(str(raised.value))

    with hold(tmp_path, "geneface fit") as lock:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert str(os.getpid()) in refused[0] and lock.holder.host in refused[0] and "geneface fit" in refused[0]
    assert not list(tmp_path.iterdir()), "a lock ends with its run"
    with hold(tmp_path, "geneface train"):
        pass


def test_another_process_is_refused(tmp_path):
    code = "import sys; from data_tools.locks import hold\nwith hold(sys.argv[1], 'a test'): print('taken')"
    with hold(tmp_path, "geneface fit"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode != 0 and "Another run works in" in done.stderr and "taken" not in done.stdout


def test_what_a_thread_holds_it_may_hold_again(tmp_path):
    with hold(tmp_path, "geneface fit") as outer, hold(tmp_path, "geneface prepare") as inner:
        assert inner is outer
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize(
    ("seconds", "changes"),
    [
        (0.0, {"pid": "ended"}),
        (0.0, {"start": "1"}),  # another process has got its number
        (0.0, {"boot": "000000"}),
        (STALE_SECONDS + 5, {"machine": "000000"}),
    ],
    ids=["ended", "number used again", "before the machine restarted", "silent on another machine"],
)
def test_a_run_that_ended_without_saying_so_is_taken_over(tmp_path, caplog, seconds, changes):
    if changes.get("pid") == "ended":
        changes = {"pid": ended_process(), "start": "1"}
    left_by(tmp_path, seconds, run="a" * 16, **changes)
    with caplog.at_level(logging.WARNING), hold(tmp_path, "geneface train") as lock:
        assert Holder.read(tmp_path / LOCK_FILE)[0] == lock.holder
    assert "takes over" in caplog.text and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "changes"),
    [(5.0, {"machine": "000000", "pid": 0}), (1e6, {})],
    ids=["a process number of another machine says nothing", "a stopped process of this machine lives"],
)
def test_a_run_that_may_live_is_not_taken_over(tmp_path, seconds, changes):
    left_by(tmp_path, seconds, **changes)
    with pytest.raises(InputError, match="Another run works"), hold(tmp_path, "geneface train"):
        pass


def test_a_lock_that_says_nothing_is_held_while_it_is_young(tmp_path):
    path = left_by(tmp_path)
    path.write_text("{")
    with pytest.raises(InputError, match="doesn't say who"), hold(tmp_path, "geneface train"):
        pass
    os.utime(path, (1, 1))
    with hold(tmp_path, "geneface train"):
        pass


def test_the_owner_gives_signs_of_life_and_notices_that_it_was_robbed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.02)
    with hold(tmp_path, "geneface train") as lock:
        os.utime(lock.path, (1, 1))
        wait_until(lambda: lock.path.stat().st_mtime > 1)
        lock.require()
        lock.path.unlink()
        wait_until(lock.path.exists)  # deleted by hand
        left_by(tmp_path, run="b" * 16)
        wait_until(lambda: lock._lost_to)
        with pytest.raises(InputError, match="taken over by another run"):
            lock.require()
    assert (tmp_path / LOCK_FILE).exists(), "the other run's lock stays"


def test_two_that_take_over_at_once_do_not_both_win(tmp_path):
    path = left_by(tmp_path, run="a" * 16, boot="000000")
    stale = Holder.read(path)[0]
    late = Lock(path, tmp_path, "late")
    with hold(tmp_path, "quick") as quick:
        late._remove_stale(stale)  # it read the stale lock before the quick one replaced it
        assert Holder.read(path)[0] == quick.holder


def test_a_folder_that_is_replaced_has_its_lock_beside_it(tmp_path):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
        assert (tmp_path / ".out.lock").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_new_folder_that_stays_empty_is_no_trace(tmp_path):
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "new", "geneface fit"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_peers_join_by_the_number_of_the_run(tmp_path):
    with hold(tmp_path, "geneface train") as lock:
        join(tmp_path, lock.holder.run, 0.1)
        with pytest.raises(InputError, match=re.escape("a disk that all of them share")):
            join(tmp_path, "c" * 16, 0.05)


def wait_until(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
