"""Batches made in a thread while the devices work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

DEPTH = 2
"""Batches made ahead: one in use, one ready."""


def prefetch(make: Callable[[int], Any], first: int, end: int) -> Generator[Any, None, None]:
    """Yields `make(step)` for first <= step < end, in order, made ahead in a thread.

    An exception in `make` is raised here, at the step it belongs to. Closing the iterator stops the thread.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=DEPTH)
    closed = threading.Event()

    def put(item: tuple[Any, BaseException | None]) -> None:
        while not closed.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        for step in range(first, end):
            if closed.is_set():
                return
            try:
                put((make(step), None))
            except BaseException as error:
                return put((None, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(first, end):
            batch, error = ready.get()
            if error is not None:
                raise error
            yield batch
    finally:
        closed.set()
        thread.join()
