"""Full disks and read-only folders become input errors, and existing checkpoints stay."""

from __future__ import annotations

import collections
import errno
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from toy_stage import ToyStage, toy_config

from data_tools import io
from data_tools.errors import InputError
from data_tools.io import SPARE, disk_errors_as_input_errors
from geneface_jax.io import checkpoints
from geneface_jax.io.checkpoints import CheckpointWriter
from geneface_jax.training.loop import train

Usage = collections.namedtuple("Usage", "total used free")
STATE = {"params": {"w": np.zeros(1000, np.float32)}}


def test_space_is_looked_at_before_a_save(tmp_path, monkeypatch):
    writer = CheckpointWriter(tmp_path, keep=1, best=None)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 0, SPARE + 3000))
    with pytest.raises(InputError, match=r"has 67 MB free and the checkpoint of step 7 needs 67 MB: free some space and run the same"):
        writer.save(7, STATE, {})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 0, SPARE + 4000))
    writer.save(7, STATE, {})
    writer.close()
    assert checkpoints.steps(tmp_path) == [7]


def test_a_disk_that_fills_up_during_a_save_ends_the_run_with_the_last_checkpoint_whole(tmp_path, monkeypatch):
    whole = io.write_manifest

    def write(folder):
        if ".10." in folder.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(folder)

    monkeypatch.setattr(checkpoints.files, "write_manifest", write)
    stage = ToyStage(toy_config())
    with pytest.raises(InputError, match=r"The disk of .* is full: free some space and run the same command again"):
        train(stage.config, tmp_path, stage=stage)
    assert checkpoints.steps(tmp_path) == [5] and checkpoints.damage(tmp_path, 5) is None
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")]
    monkeypatch.undo()
    again = ToyStage(toy_config())
    train(again.config, tmp_path, stage=again)
    assert again.steps_seen[0] == 5 and checkpoints.steps(tmp_path)[-1] == 20


@pytest.mark.parametrize("text", ["No space left on device", "RESOURCE_EXHAUSTED: Error writing [No space left on device]"])
def test_the_sentence_is_found_in_other_libraries_errors(tmp_path, text):
    with pytest.raises(InputError, match="is full"), disk_errors_as_input_errors(tmp_path, in_text=True):
        raise ValueError(text)
    with pytest.raises(ValueError, match="unrelated"), disk_errors_as_input_errors(tmp_path):
        raise ValueError("unrelated")


def test_a_read_only_folder_is_refused_before_anything_is_done():
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    try:
        folder.chmod(0o555)
        if root:  # root ignores permissions
            os.seteuid(65534)
        stage = ToyStage(toy_config())
        sentence = rf"{folder}/run can't be written to or read .*: change its permissions, or name another --workdir"
        with pytest.raises(InputError, match=sentence):
            train(stage.config, folder / "run", stage=stage)
        assert stage.traces == 0
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)
