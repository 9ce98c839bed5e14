"""Deadlines of connections: request heads and bodies that stop arriving, and readers that stop reading.

uvicorn only limits how long an idle connection is kept between two requests. A client that sends half a request, or that reads nothing of
an answer, would hold its connection, and everything behind it, for as long as it likes.
"""

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 400
"""Open connections. Beyond it, the one that has waited longest without a complete request head is closed, so that new clients get in."""


def max_connections() -> int:
    """`MAX_CONNECTIONS`, or half of the files that this process may open if that is less."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose patience with a client ends.

    Attributes:
      head_seconds: for a request's head, from the connection or from the head's first byte.
      body_seconds, body_bytes: so many bytes of a request's body must arrive in so many seconds (3.2 KiB/s); time in which the studio
        itself takes nothing does not count.
      reader_seconds: for the reader to take a piece of an answer, after what the system buffers.
    """

    head_seconds = 20.0
    body_seconds = 20.0
    body_bytes = 64 << 10
    reader_seconds = 300.0

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._received = 0
        self._upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # For responses that give up a client themselves: closing would wait until the client has read what is buffered.
        self.app_state = {**self.app_state, "drop_connection": self.drop}
        self._start("head", self.head_seconds, self.drop)
        if len(self.connections) > max_connections():
            # Those that were dropped just now are still in the set.
            others = [one for one in self.connections if isinstance(one, PatientProtocol) and not one.transport.is_closing()]
            waiting = [(since, one) for one in others if (since := one.idle_since()) is not None]
            if len(others) > max_connections():
                min(waiting, key=lambda pair: pair[0])[1].drop()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def idle_since(self) -> float | None:
        """Since when the connection waits for a complete request head (on the loop's clock); None while a request is served."""
        if "head" in self._timers:
            return self._timers["head"].when() - self.head_seconds
        return self.timeout_keep_alive_task.when() - self.timeout_keep_alive if self.timeout_keep_alive_task else None

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        # From here on the connection belongs to another protocol, with deadlines of its own.
        self._upgraded = True
        for name in list(self._timers):
            self._stop(name)
        super().handle_websocket_upgrade(event)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self._upgraded:
            return
        if self._serving():
            self._stop("head")
            if self.cycle.more_body and "body" not in self._timers:
                self._received = 0
                self._start("body", self.body_seconds, self._check_body)
        elif "head" not in self._timers and not self.transport.is_closing():
            # The begin of another request on a kept connection, for which uvicorn has stopped its timer.
            self._start("head", self.head_seconds, self.drop)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start("reader", self.reader_seconds, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop("reader")

    def drop(self) -> None:
        """Ends the connection at once; the app sees a client that disconnected."""
        if not self.transport.is_closing():
            logger.info("Dropped the connection of %s, which was too slow.", self.client)
        self.transport.abort()

    def _serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _check_body(self) -> None:
        """Ends a body that arrives too slowly; runs every `body_seconds` until the body is complete."""
        self._stop("body")
        if not self._serving() or not self.cycle.more_body:
            return
        waits_for_us = self.flow.read_paused or self.cycle.waiting_for_100_continue
        if self._received < self.body_bytes and not waits_for_us:
            return self.drop()
        self._received = 0
        self._start("body", self.body_seconds, self._check_body)

    def _start(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(seconds, callback)

    def _stop(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
