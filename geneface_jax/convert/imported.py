"""An original checkpoint in our terms, and the work folder it becomes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.io import write_folder
from geneface_jax.io import checkpoints, configs


@dataclasses.dataclass(frozen=True)
class Imported:
    """A checkpoint in our terms.

    Attributes:
      title: what it is, for people.
      stage, step: of the checkpoint.
      config: resolved, as `config.json` will hold it.
      state: `params` and what else the stage keeps: `batch_stats`, `constants`, `occupancy`.
      notes: sentences that its owner should read.
    """

    title: str
    stage: str
    step: int
    config: ConfigDict
    state: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all networks."""
        return sum(value.size for value in jax.tree.leaves(self.state["params"]))


def write(imported: Imported, folder: str | Path) -> Path:
    """Writes the work folder, whole or not at all.

    Raises:
      InputError: the folder is there and not empty.
    """
    return write_folder(require_new(folder), lambda target: fill(imported, target))


def fill(imported: Imported, target: Path) -> None:
    """Writes the content of a work folder into `target`, which exists and is nobody else's."""
    configs.save(imported.config, target)
    checkpoints.save(target, imported.step, imported.state, {"config": imported.config, "metrics": {}})
    for note in (target / checkpoints.FOLDER).rglob("commit_success.txt"):
        note.unlink()  # it names the temporary folder, and nothing reads it


def require_new(folder: str | Path) -> Path:
    """`folder` as a path.

    Raises:
      InputError: it is there and not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: name a new folder, or remove that one.")
    return folder
