"""What all parts of one running studio share."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
import uuid
from pathlib import Path

from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls
from geneface_jax.studio.desk import Desk, Ticket
from geneface_jax.studio.limits import Limits
from geneface_jax.studio.people import People, Person
from geneface_jax.studio.performance import Performance
from geneface_jax.studio.texts import text
from geneface_jax.studio.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class StreamOrder:
    """What an address of a stream stands for."""

    person: Person
    audio: Path
    controls: Controls
    ordered: float


class Context:
    """One studio.

    Attributes:
      people: who is served. workspace: the private folder. limits: see `Limits`.
      desk: whose turn it is. performance: what is made.
    """

    def __init__(self, people: People, workspace: Workspace, limits: Limits):
        self.people, self.workspace, self.limits = people, workspace, limits
        self.desk = Desk(limits.waiting, limits.warm_people)
        self.performance = Performance(self.desk, workspace, limits)
        self._tickets: dict[str, Ticket] = {}
        self._orders: dict[str, StreamOrder] = {}
        self._lock = threading.Lock()

    def enter(self, session: str) -> Ticket:
        """A ticket for a visitor, in place of an earlier one, which is cancelled. Raises as `Desk.enter`."""
        self.cancel(session)
        self.workspace.expire(time.time() - self.limits.keep_seconds)
        ticket = self.desk.enter()
        with self._lock:
            self._tickets[session] = ticket
        return ticket

    def cancel(self, session: str) -> None:
        """Cancels what a visitor has running or waiting, if anything."""
        with self._lock:
            ticket = self._tickets.pop(session, None)
        if ticket is not None:
            ticket.cancelled.set()

    def order_stream(self, person: Person, audio: Path, controls: Controls) -> str:
        """An address `/stream/TOKEN`, for a while."""
        token, now = uuid.uuid4().hex, time.monotonic()
        with self._lock:
            self._orders = {key: order for key, order in self._orders.items() if now - order.ordered < self.limits.stream_seconds}
            self._orders[token] = StreamOrder(person, audio, controls, now)
        return token

    def stream_order(self, token: str) -> StreamOrder:
        """What was ordered.

        Raises:
          InputError: nothing was, or too long ago.
        """
        with self._lock:
            order = self._orders.get(token)
        if order is None or time.monotonic() - order.ordered >= self.limits.stream_seconds:
            raise InputError("this stream is over; start it again from the page")
        return order

    def sentence(self, error: Exception, language: str) -> str:
        """What a visitor is told: an InputError's own sentence without the private folder's paths; of a bug only that there is one."""
        if not isinstance(error, InputError):
            traceback.print_exception(error)
            return text("error.unexpected", language)
        return str(error).replace(f"{self.workspace.folder}/", "").replace(f"{self.people.folder}/", "")
