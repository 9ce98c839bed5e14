"""SIGTERM and Ctrl-C ask a run to stop; it finishes the update at hand, saves, and leaves."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax

from geneface_jax.training import hosts

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
        return step % AGREE_EVERY == 0 and hosts.any_of_all(self.received is not None)

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
