"""Batches made in a thread while the devices work."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

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
