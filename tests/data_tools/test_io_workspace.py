"""Resumable work folders, npz files, full-disk errors and fingerprints."""

import errno
import os
import re

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.io import Workspace, disk_errors_as_input_errors, read_npz, settings_fingerprint, write_bytes, write_npz


def test_a_finished_step_is_done_under_its_key_only(tmp_path):
    work = Workspace(tmp_path / "out")
    with work.step("a", "key", ["a.txt"]):
        write_bytes(work.path("a.txt"), b"1")
    assert Workspace(tmp_path / "out").done("a", "key")
    assert not work.done("a", "other") and not work.done("b", "key")


def test_an_interrupted_step_is_not_done_and_its_files_stay_for_the_same_key(tmp_path):
    work = Workspace(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), work.step("a", "key", ["part"]):
        work.path("part").mkdir()
        write_bytes(work.path("part") / "0", b"1")
        raise KeyboardInterrupt
    assert not work.done("a", "key")
    with work.step("a", "key", ["part"]):
        assert (work.path("part") / "0").exists()
    with work.step("a", "other key", ["part"]):
        assert not work.path("part").exists(), "another key's files are removed"


def test_publishing_replaces_the_old_folder_and_leaves_nothing_beside(tmp_path):
    for content in (b"old", b"new"):
        work = Workspace(tmp_path / "out")
        with work.step("a", "key", ["scratch"]):
            write_bytes(work.path("a.txt"), content)
            write_bytes(work.path("scratch"), b"")
        work.publish(["scratch"])
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["a.txt"]
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz", x=np.arange(3))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=re.escape("full")), disk_errors_as_input_errors(tmp_path):
        write_npz(tmp_path / "a.npz", x=np.arange(4))
    assert os.listdir(tmp_path) == ["a.npz"]
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz")["x"], [0, 1, 2])


def test_other_system_errors_stay_what_they_are(tmp_path):
    with pytest.raises(ConnectionError), disk_errors_as_input_errors(tmp_path):
        raise ConnectionError(errno.ECONNRESET, "gone")


def test_fingerprints_depend_on_every_part():
    assert settings_fingerprint("a", 1) == settings_fingerprint("a", 1)
    assert (
        len({settings_fingerprint("a", 1), settings_fingerprint("a", 2), settings_fingerprint("b", 1), settings_fingerprint("a", 1, None)})
        == 4
    )
