"""Which checkpoint of a work folder is meant to be used: `selected.json`, written by a selection, read by whoever loads the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_tools.errors import InputError
from data_tools.io import read_json, write_json
from geneface_jax.io import checkpoints

SELECTED_FILE = "selected.json"
FORMAT = "geneface_jax.selected"


def write(workdir: str | os.PathLike, step: int, record: dict[str, Any]) -> Path:
    """Writes the choice and what speaks for it, atomically.

    Args:
      workdir: the work folder.
      step: the chosen checkpoint.
      record: anything JSON can hold, for people; `format` and `step` are added.
    """
    return write_json(Path(workdir) / SELECTED_FILE, {"format": FORMAT, "step": int(step), **record})


def read_step(workdir: str | os.PathLike) -> int | None:
    """The chosen step of a work folder; None when nothing was chosen.

    Raises:
      InputError: `selected.json` is damaged, or its step has no checkpoint (any more).
    """
    path = Path(workdir) / SELECTED_FILE
    if not path.is_file():
        return None
    record = read_json(path)
    step = record.get("step") if isinstance(record, dict) and record.get("format") == FORMAT else None
    if not isinstance(step, int):
        raise InputError(f"{path} names no step: delete it, or choose again with `geneface select-postnet {workdir}`.")
    if step not in checkpoints.steps(workdir):
        raise InputError(
            f"{path} names step {step}, which has no checkpoint: delete it, or choose again with `geneface select-postnet {workdir}`."
        )
    return step
