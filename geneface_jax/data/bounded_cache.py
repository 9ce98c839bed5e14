"""Memory for what is read from disk again and again: the most recently used things, up to a number of bytes."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Any


class BoundedCache:
    """Least recently used out first; safe to use from several threads (batches are made in one while another evaluates).

    Attributes:
      max_bytes: how much may be kept; a thing larger than that is handed on and forgotten.
      n_bytes: how much is kept now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.n_bytes = max_bytes, 0
        self._kept: collections.OrderedDict[Hashable, tuple[Any, int]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        """The thing under `key`, or what `make()` gives: (thing, bytes). Two threads may make it at once; one of the two stays."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        thing, size = make()
        with self._lock:
            if key not in self._kept and size <= self.max_bytes:
                self._kept[key] = (thing, size)
                self.n_bytes += size
                while self.n_bytes > self.max_bytes:
                    self.n_bytes -= self._kept.popitem(last=False)[1][1]
        return thing
