"""Everything a run tells: the line on the terminal, TensorBoard, metrics.jsonl. One process of a run on many hosts speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from geneface_jax.training import devices
from geneface_jax.training.progress import Clock, Progress
from geneface_jax.training.stage import Evaluation, Stage
from geneface_jax.training.summaries import Summaries

STARVED = 0.9
"""Share of the time spent waiting for batches from which on the devices have nothing to do."""


class RunLog:
    """Tells how a run goes.

    Args of the constructor:
      stage: whose run; its `unit`, `items_per_step` and `charts` are used.
      steps: length of the run.
      speaks: False for all but one process of a run: nothing is printed or written then.

    Attributes:
      clock: of the updates alone; `start`, `stop` and `count` it.
    """

    def __init__(self, stage: Stage, steps: int, *, speaks: bool = True):
        self.clock = Clock()
        self._stage = stage
        self._silence = None if speaks else open(os.devnull, "w", encoding="utf-8")
        self._progress = Progress(stage.config.stage, steps, stage.unit, self._silence)
        self._summaries: Summaries | None = None
        self._waited = 0.0
        self._starving_told = False

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._progress.say(text)

    def begin(self, workdir: Path, step: int, config: ConfigDict) -> None:
        """Opens the curves; what an interrupted run wrote beyond `step` is dropped."""
        if self._silence is None:
            self._summaries = Summaries(workdir, step, getattr(self._stage, "charts", {}))
            self._summaries.config(config, step)

    def stalled(self, step: int, seconds: float) -> None:
        """Says that a batch is long in coming."""
        self.say(f"the batch of step {step + 1} has not come for {seconds:.0f} s: the data is slow, or its disk hangs")

    def means(self, step: int, means: Mapping[str, float], waited: float) -> None:
        """Logs metrics, speed, memory, and the share of the time that went into waiting for batches.

        Args:
          step: updates done.
          means: metrics since the last log, by tag without `tr/`.
          waited: seconds waited for batches since the run began (`Prefetch.waited`).
        """
        seconds = self.clock.seconds()
        rate = self.clock.rate()
        share, self._waited = (waited - self._waited) / seconds if seconds else 0.0, waited
        if share > STARVED and not self._starving_told:
            self._starving_told = True
            self.say(f"{share:.0%} of the time goes into waiting for data: the devices are idle, faster storage or CPU cores would help")
        items = rate * self._stage.items_per_step
        speed = {"steps_per_second": rate, f"{self._stage.unit}_per_second": items} if rate else {}
        if self._summaries is not None:
            system = {"input_wait_share": share, **_host_memory(), **devices.memory()}
            self._summaries.scalars(step, {**{f"tr/{tag}": value for tag, value in means.items()}, **speed, **system})
        shown = sorted(means, key=lambda tag: tag.endswith("_norm"))  # losses first: the line has room for a few
        self._progress.update(step, {tag: means[tag] for tag in shown}, rate, items)

    def evaluation(self, step: int, found: Evaluation) -> None:
        """Logs an evaluation."""
        if self._summaries is not None:
            self._summaries.evaluation(step, found)
        self.say(f"step {step}: " + "  ".join(f"{tag} {value:.4g}" for tag, value in found.scalars.items()))

    def finish(self, config: ConfigDict, metrics: Mapping[str, float]) -> None:
        """Logs the run's config beside its final metrics, for comparison with other runs."""
        if self._summaries is not None:
            self._summaries.hparams(config, metrics)

    def close(self) -> None:
        """Flushes and closes everything."""
        if self._summaries is not None:
            self._summaries.close()
        self._progress.close()
        if self._silence is not None:
            self._silence.close()


def _host_memory() -> dict[str, float]:
    """The most memory this process has had; nothing on Windows, where Python can't tell."""
    try:
        import resource
    except ImportError:
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"memory/host_peak_gb": peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9}
