"""What the person at the terminal sees while a stage trains."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

SHOWN = 4
"""Metrics on the line; the rest are in TensorBoard and metrics.jsonl."""


class Clock:
    """Times updates alone: evaluation, saving and the first, compiling update don't count."""

    def __init__(self) -> None:
        self._running_since: float | None = None
        self._seconds = 0.0
        self._steps = 0

    def start(self) -> None:
        """From here on time counts."""
        self._running_since = time.perf_counter()

    def stop(self) -> None:
        """Until the next `start`, time doesn't count."""
        if self._running_since is not None:
            self._seconds += time.perf_counter() - self._running_since
        self._running_since = None

    def count(self, steps: int = 1) -> None:
        """Adds updates done in the time that counts."""
        if self._running_since is not None:
            self._steps += steps

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, time doesn't count."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def seconds(self) -> float:
        """Time that counted since the last call of `rate`."""
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        return self._seconds + running

    def rate(self) -> float:
        """Updates per second since the last call (0.0 when none was timed); starts a new interval."""
        running = self._running_since is not None
        self.stop()
        rate = self._steps / self._seconds if self._steps and self._seconds > 0 else 0.0
        self._seconds, self._steps = 0.0, 0
        if running:
            self.start()
        return rate


class Progress:
    """A single line that rewrites itself on a terminal; plain lines, one a log, in a file or a pipe."""

    def __init__(self, name: str, steps: int, unit: str, stream: TextIO | None = None):
        self._name, self._steps, self._unit = name, steps, unit
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._dirty = False

    def update(self, step: int, metrics: Mapping[str, float], steps_per_second: float, units_per_second: float) -> None:
        """Shows one log: step, share, time left, rate, the first few metrics."""
        left = duration((self._steps - step) / steps_per_second) if steps_per_second else "?"
        numbers = "  ".join(f"{tag} {value:.4g}" for tag, value in list(metrics.items())[:SHOWN])
        line = (
            f"{self._name} {step}/{self._steps} ({100 * step // self._steps} %)  left {left}  "
            f"{steps_per_second:.3g} steps/s  {quantity(units_per_second)} {self._unit}/s  {numbers}"
        )
        if self._live:
            self._stream.write(f"\r\033[K{line}")
            self._dirty = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self.close()
        self._stream.write(f"{self._name}: {text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leaves the live line standing and goes below it."""
        if self._dirty:
            self._stream.write("\n")
            self._stream.flush()
        self._dirty = False


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quantity(value: float) -> str:
    """Three digits with k or M: `950`, `12.3k`, `4.56M`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
