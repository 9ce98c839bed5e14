"""Recovery and prefetch: NaN recovery from the last good checkpoint, SIGTERM and Ctrl-C, batches prepared in a thread."""

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
from data_tools.io import write_json
from data_tools.records import Field, read_record
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.devices import any_of_all

# -------- NaN recovery: after a non-finite loss, resume from the last good checkpoint at lower learning rates, a limited number of times

RECOVERY_FILE = "returns.json"
RATE_KEY = "lr"
"""Name of the config leaves that are learning rates."""


class NotFiniteError(Exception):
    """Metrics `tags` are NaN or infinite after `step` updates."""

    def __init__(self, tags: Sequence[str], step: int):
        super().__init__(f"{', '.join(tags)} is not finite at step {step}")
        self.tags, self.step = list(tags), step


def finite_means(pending: Sequence[Mapping[str, jax.Array]], step: int) -> dict[str, float]:
    """Means over updates, fetched from the first device in one transfer.

    Args:
      pending: metrics of consecutive updates, [D] each and equal on all devices.
      step: number of updates the state has had after the last of them.

    Raises:
      NotFiniteError: a value is not finite. The loop saves after this check, so no checkpoint holds a non-finite state.
    """
    # Only this process's own shards are addressable in a multi-host run.
    fetched = jax.device_get([{tag: value.addressable_data(0) for tag, value in row.items()} for row in pending])
    table = {tag: np.array([np.ravel(row[tag])[0] for row in fetched], np.float64) for tag in fetched[0]}
    finite = np.all([np.isfinite(values) for values in table.values()], axis=0)
    if not finite.all():
        broken = int(np.argmin(finite))
        tags = [tag for tag, values in table.items() if not np.isfinite(values[broken])]
        # If a loss is non-finite its norms are too; report only the loss.
        raise NotFiniteError([tag for tag in tags if not tag.endswith("_norm")] or tags, step - len(fetched) + broken + 1)
    return {tag: float(values.mean()) for tag, values in table.items()}


class NanRecovery:
    """Counts the recoveries of a run in `returns.json` of its work folder, so that a resumed run keeps the lower learning rates.

    At most `limit` recoveries are allowed over the whole run; each multiplies the learning rates by `factor`.
    """

    def __init__(self, workdir: str | os.PathLike, limit: int, factor: float):
        self._workdir, self._limit, self._factor = Path(workdir), limit, factor
        path = self._workdir / RECOVERY_FILE
        remedy = "delete it to start again at the full learning rates"
        self._failures: list[dict] = read_record(path, {"returns": Field(list, high=1000)}, remedy)["returns"] if path.is_file() else []

    @property
    def rate(self) -> float:
        """Factor currently applied to the learning rates."""
        return self._factor ** len(self._failures)

    def record_failure(self, error: NotFiniteError, config: ConfigDict, *, write: bool) -> str:
        """Records a non-finite loss and returns a sentence for the user; the caller resumes from the newest checkpoint.

        Args:
          error: the failure.
          config: the run's config, with full learning rates.
          write: whether this process writes the file.

        Raises:
          InputError: the limit is reached, or the config has no learning rate that could be lowered.
        """
        saved = checkpoints.steps(self._workdir)
        count = len(self._failures)
        if count >= self._limit or not rate_keys(config):
            attempts = f" after {count} returns to lower rates" if count else ""
            way_out = f"the checkpoint of step {saved[-1]} in {self._workdir} is sound, resume from it" if saved else "start again"
            raise InputError(f"{error}{attempts}: {way_out} with a smaller learning rate or other data.")
        self._failures.append({"step": error.step, "metrics": error.tags, "back_to": saved[-1] if saved else 0})
        if write:
            write_json(self._workdir / RECOVERY_FILE, {"returns": self._failures}, checksum=True)
        back = f"step {saved[-1]}" if saved else "the start"
        return f"{error}: back to {back} at {self.rate:g} of the learning rate (return {count + 1} of at most {self._limit})"


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


# -------- SIGTERM and Ctrl-C: the run finishes the current update, saves a checkpoint, and exits

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_EVERY = 10
"""Updates between the points at which the processes of a multi-host run exchange whether one of them is to stop."""


class TrainingStopped(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM after its state was saved; the same call resumes it.

    Attributes:
      step: the step of the checkpoint that was saved.
      exit_code: 128 + the signal's number, as shells report it.
    """

    def __init__(self, step: int, received: int):
        super().__init__(f"training stopped at step {step}; the same call resumes it from there")
        self.step, self.exit_code = step, 128 + received


class Interrupts:
    """Context in which the first signal is only recorded, in `received`; a second one has its usual effect."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        # Python lets only the main thread set handlers; in another thread (a worker of the web page) signals don't reach the run.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def requested(self, step: int) -> bool:
        """Whether to stop after `step` updates: this process received a signal or, in a multi-host run, any other did (exchanged every
        `AGREE_EVERY` steps, so that all processes stop after the same update)."""
        if jax.process_count() == 1:
            return self.received is not None
        return step % AGREE_EVERY == 0 and any_of_all(self.received is not None)

    def stopped(self, step: int) -> TrainingStopped:
        """The exception that ends the run after `step` updates; SIGTERM's if another process of the run received the signal."""
        return TrainingStopped(step, self.received or signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


# -------- Prefetching: batches are made in a thread while the devices compute

DEPTH = 2
"""Batches made ahead of time."""

STALLED_SECONDS = 60.0
"""A batch that takes longer than this is reported."""


class Prefetch:
    """Iterates over `make(step)` for first <= step < end, in order, computed ahead in a thread.

    An exception in `make` is raised at the step it belongs to, and ends the iteration.

    Args of the constructor:
      make: step -> batch.
      first, end: the range of steps.
      stalled: called with (step, seconds waited) every `stalled_seconds` of waiting for a batch.

    Attributes:
      waited: seconds spent waiting for batches so far, excluding the first one.
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
        """Stops the thread; does nothing if it has stopped."""
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
