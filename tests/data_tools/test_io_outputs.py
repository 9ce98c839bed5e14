"""Outputs that can't be written are found before the work, and what killed runs left is found by the next."""

import errno
import os
import subprocess
import sys

import pytest

from data_tools import io, locks
from data_tools.errors import InputError
from data_tools.io import atomic_folder, atomic_path, disk_error_sentence, disk_errors_as_input_errors, require_output, write_text

LONG = "x" * 300


@pytest.mark.parametrize(
    ("name", "folder", "sentence"),
    [
        ("", False, "The name of the output is empty"),
        ("a folder", False, "is a folder where a file is to be written"),
        ("a file", True, "is a file where a folder is to be written"),
        ("a file/out.mp4", False, "because .*a file is a file"),
        ("a file/b/c/out.mp4", False, "because .*a file is a file"),
        (f"{LONG}.mp4", False, "is too long a name"),
        (f"new/{LONG}", True, "is too long a name"),
    ],
)
def test_a_name_that_can_not_be_written_is_refused(tmp_path, name, folder, sentence):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("kept")
    with pytest.raises(InputError, match=sentence) as raised:
        require_output(name and tmp_path / name, folder=folder)
    assert str(raised.value).endswith(".") and ": " in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "a folder"]


def test_what_is_no_ordinary_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no ordinary file"):
        require_output(tmp_path / "pipe")
    with pytest.raises(InputError, match="no ordinary file"):
        require_output(os.devnull)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["out.mp4", "new/folder/out.mp4"])
def test_a_place_that_can_not_be_written_is_refused(tmp_path, monkeypatch, number, name):
    def refuse(folder):
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(io, "_try_to_write", refuse)
    with pytest.raises(InputError, match=f"out.mp4 can't be written to .*{os.strerror(number)}.*--out"):
        require_output(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_can_be_written_passes_and_nothing_is_made(tmp_path):
    (tmp_path / "old.mp4").write_text("1")
    for name in ("old.mp4", "new.mp4", "a/b/c/new.mp4", "n" * 255):
        require_output(tmp_path / name)
    require_output(tmp_path, folder=True)
    require_output(None)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]


def test_the_longest_name_has_room_for_a_temporary_one(tmp_path):
    path = write_text(tmp_path / ("n" * 255), "1")
    assert path.read_text() == "1" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", sorted(io._DISK_ERRORS))
def test_every_error_of_a_disk_is_one_sentence(number, tmp_path):
    sentence = disk_error_sentence(OSError(number, os.strerror(number), str(tmp_path / "a")))
    assert sentence and sentence.endswith(".") and str(tmp_path / "a") in sentence and ": " in sentence and "{" not in sentence


def test_other_errors_are_bugs_and_a_gpu_is_no_disk():
    assert disk_error_sentence(OSError(errno.EINVAL, "invalid")) is None
    assert disk_error_sentence(FileNotFoundError(errno.ENOENT, "none")) is None
    full = RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9000000000 bytes")
    assert disk_error_sentence(full) is None
    assert "is full" in disk_error_sentence(ValueError(f"tensorstore: {os.strerror(errno.ENOSPC)}"), "x", in_text=True)
    with pytest.raises(RuntimeError), disk_errors_as_input_errors("x"):
        raise full


def test_a_sentence_names_the_target_and_not_its_temporary_name(tmp_path):
    with pytest.raises(OSError) as raised, atomic_path(tmp_path / "talk.mp4") as temporary:
        raise OSError(errno.ENOSPC, "full", str(temporary))
    assert f"{tmp_path / 'talk.mp4'} is full" in disk_error_sentence(raised.value)


# -------- Leftovers


def killed(tmp_path, code):
    """Runs a program that kills itself in the middle."""
    script = f"import os, sys\nfrom pathlib import Path\nfrom data_tools.io import *\nout = Path(sys.argv[1])\n{code}"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    return sorted(path.name for path in tmp_path.iterdir())


def test_the_next_run_deletes_the_file_that_a_killed_one_left(tmp_path):
    assert killed(tmp_path, "with atomic_path(out) as part:\n    part.write_text('half'); os.kill(os.getpid(), 9)") != []
    write_text(tmp_path / "out", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_next_run_deletes_the_folder_that_a_killed_one_left_and_its_lock(tmp_path):
    assert len(killed(tmp_path, "with atomic_folder(out) as part:\n    (part / 'a').write_text('half'); os.kill(os.getpid(), 9)")) == 2
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_put_aside_by_a_killed_run_is_not_lost(tmp_path):
    code = "out.mkdir(); (out / 'a').write_text('old')\nreal = os.replace\n"
    code += "def replace(a, b):\n    real(a, b); os.kill(os.getpid(), 9)\nos.replace = replace\n"
    assert killed(tmp_path, code + "with atomic_folder(out) as part:\n    pass")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out"):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("old")
    real, calls = os.replace, []

    def fail_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "broken")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail_second)
    with pytest.raises(OSError), atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_helper_file_that_could_not_be_deleted_is_no_part_of_a_result(tmp_path):
    with atomic_folder(tmp_path / "out") as folder, atomic_path(folder / "a.mp4") as part:
        part.write_text("1")
        part.with_name(f"{part.name}.wav").write_text("sound")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_files_of_living_processes_and_of_other_machines_stay(tmp_path):
    other = tmp_path / f".out.0000ff-{locks.boot()}-1-0.partial"
    alive = tmp_path / f".out.{locks.machine()}-{locks.boot()}-{os.getppid()}-0.partial"
    for path in (other, alive):
        path.write_text("half")
    with atomic_path(tmp_path / "out") as mine:
        mine.write_text("mine")
        write_text(tmp_path / "out", "the same process, another thread")
        assert mine.exists()
    assert other.exists() and alive.exists()
