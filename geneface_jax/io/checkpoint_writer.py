"""Saving while training goes on: the state is copied to memory, and a thread writes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.io import disk_errors_as_input_errors, require_space
from geneface_jax.io import checkpoints


class CheckpointWriter:
    """Writes the checkpoints of one run, one at a time and in order; each is whole or absent (`io.checkpoints`).

    Args of the constructor:
      workdir: the work folder; what killed saves left in it is cleared away.
      keep, best, milestones_every: which steps stay, see `checkpoints.save`.
      enabled: False for all but one process of a run: nothing is written then.
    """

    def __init__(
        self, workdir: str | os.PathLike, *, keep: int | None, best: tuple[str, str] | None, milestones_every: int = 0, enabled: bool = True
    ):
        self._workdir = Path(workdir)
        self._rules: dict[str, Any] = {"keep": keep, "best": best, "milestones_every": milestones_every}
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._enabled = enabled
        if enabled:
            checkpoints.clear_partial(workdir)

    def save(self, step: int, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Begins to write a checkpoint, after the one before is done; returns as soon as the state may be overwritten.

        Args: as `checkpoints.save`.

        Raises:
          InputError: the disk has no room for it, or the checkpoint before could not be written.
        """
        if not self._enabled:
            return
        self.wait()
        # A copy: what jax hands out may be a view of the buffer that the next update is written into.
        copied = jax.tree.map(np.array, jax.device_get(dict(state)))
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(copied))
        require_space(self._workdir, size, f"the checkpoint of step {step}")
        self._thread = threading.Thread(target=self._write, args=(step, copied, dict(meta)), name="save")
        self._thread.start()

    def wait(self) -> None:
        """Returns when everything begun is on the disk.

        Raises:
          InputError: it could not be written because the disk is full or read-only; other errors as they are.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            with disk_errors_as_input_errors(self._workdir):
                raise error

    def close(self) -> None:
        """`wait`, at the end of a run."""
        self.wait()

    def _write(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        try:
            checkpoints.save(self._workdir, step, state, meta, **self._rules)
        except Exception as error:
            self._error = error
