"""Recovery and prefetch: NaN recovery from the last good checkpoint, SIGTERM and Ctrl-C, batches prepared in a thread."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.io import read_json, write_json
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.devices import any_of_all

# ----------------------------------------------------------------------------------------------------
# When a loss breaks: go back to the last good checkpoint and on at a lower rate, a few times, and then say so.

RECOVERY_FILE = "returns.json"
RATE_KEY = "lr"
"""A config leaf of this name is a learning rate."""


class NotFiniteError(Exception):
    """Metrics that are NaN or infinite after `step` updates; `tags` names them."""

    def __init__(self, tags: Sequence[str], step: int):
        super().__init__(f"{', '.join(tags)} is not finite at step {step}")
        self.tags, self.step = list(tags), step


def finite_means(pending: Sequence[Mapping[str, jax.Array]], step: int) -> dict[str, float]:
    """Means over updates, fetched from the first device in one go.

    Args:
      pending: metrics of consecutive updates, [D] each and equal on all devices.
      step: how many updates the state has had after the last of them.

    Raises:
      NotFiniteError: a value is not finite. Saves come after this check, so no checkpoint holds a state that has broken.
    """
    # One device's share of every metric: a run on many hosts holds no other one's.
    fetched = jax.device_get([{tag: value.addressable_data(0) for tag, value in row.items()} for row in pending])
    table = {tag: np.array([np.ravel(row[tag])[0] for row in fetched], np.float64) for tag in fetched[0]}
    finite = np.all([np.isfinite(values) for values in table.values()], axis=0)
    if not finite.all():
        broken = int(np.argmin(finite))
        tags = [tag for tag, values in table.items() if not np.isfinite(values[broken])]
        # Where a loss is broken, that the norms are too is no news.
        raise NotFiniteError([tag for tag in tags if not tag.endswith("_norm")] or tags, step - len(fetched) + broken + 1)
    return {tag: float(values.mean()) for tag, values in table.items()}


class NanRecovery:
    """How often a run went back, kept in `returns.json` beside its checkpoints, so that a resumed run keeps the lower rate.

    Args of the constructor:
      workdir: the work folder.
      most: returns that are allowed over the whole run.
      factor: what every return multiplies the rates by.
    """

    def __init__(self, workdir: str | os.PathLike, most: int, factor: float):
        self._workdir, self._most, self._factor = Path(workdir), most, factor
        path = self._workdir / RECOVERY_FILE
        self._noted: list[dict] = read_json(path)["returns"] if path.is_file() else []

    @property
    def rate(self) -> float:
        """What the config's rates are multiplied by by now."""
        return self._factor ** len(self._noted)

    def note(self, broken: NotFiniteError, config: ConfigDict, *, write: bool) -> str:
        """Takes note of a loss that broke; the run is to begin again from the newest checkpoint.

        Args:
          broken: what broke.
          config: the run's, with its full rates.
          write: whether this process keeps the file.

        Returns:
          a sentence for the user.

        Raises:
          InputError: there were too many returns already, or the config names no rate that could be lowered.
        """
        saved = checkpoints.steps(self._workdir)
        if len(self._noted) >= self._most or not rate_keys(config):
            so_far = f" after {len(self._noted)} returns to lower rates" if self._noted else ""
            sound = f"the checkpoint of step {saved[-1]} in {self._workdir} is sound, resume from it" if saved else "start again"
            raise InputError(f"{broken}{so_far}: {sound} with a smaller learning rate or other data.")
        self._noted.append({"step": broken.step, "metrics": broken.tags, "back_to": saved[-1] if saved else 0})
        if write:
            write_json(self._workdir / RECOVERY_FILE, {"returns": self._noted})
        back = f"step {saved[-1]}" if saved else "the start"
        return f"{broken}: back to {back} at {self.rate:g} of the learning rate (return {len(self._noted)} of at most {self._most})"


def rate_keys(config: ConfigDict) -> list[str]:
    """Dotted names of the learning rates in a config."""
    return [key for key in configs.keys(config) if key.split(".")[-1] == RATE_KEY]


def with_rates(config: ConfigDict, rates: ConfigDict, factor: float) -> ConfigDict:
    """A copy of `config` whose learning rates are those of `rates` times `factor`."""
    config = config.copy_and_resolve_references()
    for key in rate_keys(rates):
        *parents, leaf = key.split(".")
        source, target = rates, config
        for name in parents:
            source, target = source[name], target[name]
        target[leaf] = source[leaf] * factor
    return config


# ----------------------------------------------------------------------------------------------------
# SIGTERM and Ctrl-C ask a run to stop; it finishes the update at hand, saves, and leaves.

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_EVERY = 10
"""Updates after which the processes of a run on many hosts ask each other whether one is to stop."""


class Interrupts:
    """Context in which the first signal is only noted; a second one acts as it always did.

    Attributes:
      received: the signal's number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # Python lets only the main thread set handlers; elsewhere (a web page's worker) a run simply can't be signalled.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def requested(self, step: int) -> bool:
        """Whether the run is to stop after `step` updates, because this process was asked to or, on many hosts, another one.

        All processes must stop after the same update, so there they ask each other, every so many steps.
        """
        if jax.process_count() == 1:
            return self.received is not None
        return step % AGREE_EVERY == 0 and any_of_all(self.received is not None)

    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; SIGTERM's where another process of the run was asked."""
        return 128 + (self.received or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


# ----------------------------------------------------------------------------------------------------
# Batches made in a thread while the devices work.

DEPTH = 2
"""Batches made ahead: one in use, one ready."""

STALLED_SECONDS = 60.0
"""A batch that takes longer is worth a word."""


class Prefetch:
    """Iterates over `make(step)` for first <= step < end, in order, made ahead in a thread.

    An exception in `make` is raised at the step it belongs to, and ends the iteration.

    Args of the constructor:
      make: step -> batch.
      first, end: the range of steps.
      stalled: is told (step, seconds) whenever a batch has been waited for another `stalled_seconds`.

    Attributes:
      waited: seconds spent waiting for batches so far, without the first one.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        first: int,
        end: int,
        *,
        stalled: Callable[[int, float], None] = lambda step, seconds: None,
        stalled_seconds: float = STALLED_SECONDS,
    ):
        self.waited = 0.0
        self._make, self._next, self._first, self._end = make, first, first, end
        self._stalled, self._stalled_seconds = stalled, stalled_seconds
        self._ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=DEPTH)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._next >= self._end or self._closed.is_set():
            self.close()
            raise StopIteration
        batch, error = self._get()
        if error is not None:
            self.close()
            raise error
        self._next += 1
        return batch

    def close(self) -> None:
        """Stops the thread; harmless when it has stopped."""
        self._closed.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _get(self) -> tuple[Any, BaseException | None]:
        started = time.perf_counter()
        while True:
            try:
                item = self._ready.get(timeout=self._stalled_seconds)
            except queue.Empty:
                self._stalled(self._next, time.perf_counter() - started)
                continue
            if self._next > self._first:
                self.waited += time.perf_counter() - started
            return item

    def _put(self, item: tuple[Any, BaseException | None]) -> None:
        while not self._closed.is_set():
            try:
                return self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def _work(self) -> None:
        for step in range(self._first, self._end):
            if self._closed.is_set():
                return
            try:
                self._put((self._make(step), None))
            except BaseException as error:
                return self._put((None, error))
