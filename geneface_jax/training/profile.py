"""A few updates recorded for TensorBoard's profile tab and Perfetto."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax

FOLDER = "profile"
SKIPPED = 3
"""Updates before the recording: compiling and first touches of memory are another story."""


class Profile:
    """Records `steps` consecutive updates of a run into `workdir/profile`; 0 records none.

    Args of the constructor:
      workdir: the work folder.
      steps: how many.
      first: the first update of this run.
    """

    def __init__(self, workdir: str | os.PathLike, steps: int, first: int):
        self._folder = Path(workdir) / FOLDER
        self._begin, self._end = (first + SKIPPED, first + SKIPPED + steps) if steps > 0 else (-1, -1)
        self._recording = False

    def before(self, step: int) -> None:
        """To be called before every update."""
        if step == self._begin:
            jax.profiler.start_trace(str(self._folder))
            self._recording = True

    def after(self, step: int, metrics: Any) -> str | None:
        """To be called after every update, with what it returned; gives a sentence when the recording is done."""
        if not self._recording or step + 1 < self._end:
            return None
        jax.block_until_ready(metrics)
        self.close()
        return f"steps {self._begin + 1} to {step + 1} are recorded in {self._folder}: tensorboard --logdir {self._folder}"

    def close(self) -> None:
        """Ends a recording that is going on."""
        if self._recording:
            jax.profiler.stop_trace()
        self._recording = False
