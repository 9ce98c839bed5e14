"""Shared state of a running studio: render tasks (videos, previews, comparisons), settings, portraits of the persons."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import traceback
import uuid
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE, load_audio
from data_tools.errors import InputError
from data_tools.video.write import open_writer
from geneface_jax.inference import provenance
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.inference.person import MotionPlan, OpenPerson, plan_motion, render_frames
from geneface_jax.inference.streaming import stream
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.studio.i18n import text
from geneface_jax.studio.render_queue import ListedPerson, PersonList, RenderJob, RenderQueue, thumbnail
from geneface_jax.studio.security import Limits
from geneface_jax.studio.uploads import SessionFolder

# ----------------------------------------------------------------------------------------------------
# What the studio makes of a recording and settings: videos, previews, comparisons; each in its turn, each cancellable.

LANDMARK_SIZE = 384
TELL_EVERY = 0.5
"""Seconds from one word about the progress to the next."""


@dataclasses.dataclass(frozen=True)
class RenderProgress:
    """How far a render is.

    Attributes:
      ahead: how many are before it in the queue.
      done, total: frames; total is 0 while networks are read and the motion is made.
      seconds_left: None until it can be told.
    """

    ahead: int = 0
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


RenderResult = TypeVar("Made")
RenderTask = Generator[RenderProgress, None, RenderResult]
"""Yields how far it is; returns what was made."""


class Renders:
    """Makes things for visitors.

    Args:
      desk: whose turn it is.
      workspace: where results go.
      limits: `preview_seconds` is used.
    """

    def __init__(self, desk: RenderQueue, workspace: SessionFolder, limits: Limits):
        self._desk, self._workspace, self._limits = desk, workspace, limits

    def video(self, ticket: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> RenderTask[Path]:
        """Renders the whole recording; returns the file.

        Raises:
          InputError: as `pipeline.direct` and `pipeline.perform`.
          Cancelled: the ticket was; nothing of the file is left.
        """
        transparent = controls.bg == TRANSPARENT
        out = self._workspace.new_file("results", ".webm" if transparent else ".mp4")
        opened = yield from self._opened(ticket, person, controls.precision)
        samples = load_audio(audio)
        script = plan_motion(opened, samples, controls)
        with contextlib.closing(render_frames(opened, script, controls)) as frames:
            yield from self._write(ticket, frames, script.frames, out, audio, controls, transparent)
        if not transparent:
            provenance.stamp(out, provenance.provenance_of(person.parts, opened.subject.meta))
        return out

    def first_frame(self, ticket: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> RenderTask[np.ndarray]:
        """Renders the first frame alone; returns it, uint8 [H, W, 3 or 4]."""
        opened = yield from self._opened(ticket, person, controls.precision)
        script = plan_motion(opened, load_audio(audio), controls)
        with contextlib.closing(render_frames(opened, script, controls)) as frames:
            return next(frames)

    def landmarks(self, ticket: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> RenderTask[Path]:
        """Draws the landmarks of the first seconds, as predicted and as the controls shape them; returns the file."""
        opened = yield from self._opened(ticket, person, controls.precision)
        script = self._beginning(opened, audio, controls)
        pictures = landmark_frames([script.predicted, script.motion], ["network", "controls"], opened.subject.mean_face, LANDMARK_SIZE)
        out = self._workspace.new_file("results", ".mp4")
        yield from self._write(ticket, pictures, script.frames, out, audio, Controls(preset="veryfast"), False)
        return out

    def comparison(self, ticket: RenderJob, person: ListedPerson, audio: Path, pair: tuple[Controls, Controls]) -> RenderTask[Path]:
        """Renders the first seconds with two settings, side by side (A left); returns the file."""
        # One precision, or both would have to be in memory; the second setting's, which is the one being looked at.
        precision = pair[1].precision
        opened = yield from self._opened(ticket, person, precision)
        # One size and an opaque background, or the two would not fit into one picture.
        size = pair[0].size or opened.subject.size
        first, second = (
            dataclasses.replace(controls, size=size, precision=precision, bg="original" if controls.bg == TRANSPARENT else controls.bg)
            for controls in pair
        )
        scripts = [self._beginning(opened, audio, controls) for controls in (first, second)]
        with (
            contextlib.closing(render_frames(opened, scripts[0], first)) as left,
            contextlib.closing(render_frames(opened, scripts[1], second)) as right,
        ):
            both = (np.concatenate(halves, axis=1) for halves in zip(left, right, strict=True))
            out = self._workspace.new_file("results", ".mp4")
            yield from self._write(ticket, both, scripts[0].frames, out, audio, Controls(), False)
        provenance.stamp(out, provenance.provenance_of(person.parts, opened.subject.meta))
        return out

    def streamed(self, ticket: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> Generator[bytes, None, None]:
        """The whole recording as a fragmented mp4, while it is rendered; raises as `video`."""
        for _ in self._desk.wait(ticket):
            pass
        opened = self._desk.open(person, controls.precision)
        with contextlib.closing(stream(opened, load_audio(audio), controls)) as pieces:
            for piece in pieces:
                ticket.check()
                yield piece

    def _opened(self, ticket: RenderJob, person: ListedPerson, precision: str) -> RenderTask[OpenPerson]:
        """Yields the waiting; returns the person's networks."""
        for ahead in self._desk.wait(ticket):
            yield RenderProgress(ahead)
        yield RenderProgress()
        return self._desk.open(person, precision)

    def _beginning(self, opened: OpenPerson, audio: Path, controls: Controls) -> MotionPlan:
        return plan_motion(opened, load_audio(audio)[: round(self._limits.preview_seconds * SAMPLE_RATE)], controls)

    def _write(
        self, ticket: RenderJob, frames: Iterable[np.ndarray], total: int, out: Path, audio: Path, controls: Controls, alpha: bool
    ) -> Iterator[RenderProgress]:
        began = told = time.monotonic()
        with open_writer(out, audio, FPS, controls, alpha=alpha) as writer:
            for frame in frames:
                ticket.check()
                writer.write(frame)
                now = time.monotonic()
                if now - told >= TELL_EVERY:
                    told = now
                    yield RenderProgress(0, writer.count, total, (now - began) / writer.count * (total - writer.count))
        yield RenderProgress(0, total, total, 0.0)


# ----------------------------------------------------------------------------------------------------
# What all parts of one running studio share.


@dataclasses.dataclass(frozen=True)
class StreamOrder:
    """What an address of a stream stands for."""

    person: ListedPerson
    audio: Path
    controls: Controls
    ordered: float


class Context:
    """One studio.

    Attributes:
      people: who is served. workspace: the private folder. limits: see `Limits`.
      desk: whose turn it is. performance: what is made.
    """

    def __init__(self, people: PersonList, workspace: SessionFolder, limits: Limits):
        self.people, self.workspace, self.limits = people, workspace, limits
        self.desk = RenderQueue(limits.waiting, limits.warm_people)
        self.performance = Renders(self.desk, workspace, limits)
        self._tickets: dict[str, RenderJob] = {}
        self._orders: dict[str, StreamOrder] = {}
        self._lock = threading.Lock()

    def enter(self, session: str) -> RenderJob:
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

    def order_stream(self, person: ListedPerson, audio: Path, controls: Controls) -> str:
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


# ----------------------------------------------------------------------------------------------------
# A picture of every person, for choosing: its first frame in silence, drawn once.

SILENCE_SECONDS = 0.4


class Portraits:
    """Portraits, kept in memory by the person's networks."""

    def __init__(self, context: Context):
        self._context, self._lock = context, threading.Lock()
        self._known: dict[ListedPerson, np.ndarray] = {}

    def get(self, person: ListedPerson) -> np.ndarray:
        """uint8 [192, 192, 3]. Waits for its turn at the desk, since it renders.

        Raises:
          InputError: as `pipeline.open_person`, or too many are waiting.
        """
        with self._lock:
            if person not in self._known:
                self._known[person] = self._draw(person)
            return self._known[person]

    def _draw(self, person: ListedPerson) -> np.ndarray:
        desk = self._context.desk
        ticket = desk.enter()
        try:
            for _ in desk.wait(ticket):
                pass
            opened = desk.open(person)
            controls = Controls(pose="still", blink_mode="none", temperature=0.0)
            script = plan_motion(opened, np.zeros(round(SILENCE_SECONDS * SAMPLE_RATE), np.float32), controls)
            with contextlib.closing(render_frames(opened, script, controls)) as frames:
                return np.asarray(thumbnail(next(frames)))
        finally:
            desk.leave(ticket)
