"""Bounded render queue, LRU cache of loaded persons, render tasks, portraits, and the state that all parts of a studio share."""

import collections
import contextlib
import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from data_tools.audio.sound import FPS, SAMPLE_RATE, load_audio
from data_tools.errors import InputError
from data_tools.video import open_writer
from geneface_jax.inference import provenance
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.inference.person import MotionPlan, Person, open_person, plan_motion, render_frames
from geneface_jax.inference.streaming import stream
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.studio.i18n import text
from geneface_jax.studio.people import ListedPerson, PersonList, broken_reason
from geneface_jax.studio.security import Limits
from geneface_jax.studio.uploads import Quota, SessionFolder, accept_audio

logger = logging.getLogger(__name__)

# -------- Render queue: one job runs, a bounded number waits, further ones are refused


class QueueFull(InputError):
    """Too many jobs are waiting already."""


class Cancelled(Exception):
    """The job was cancelled."""


class RenderJob:
    """One visitor's render, waiting or running; may be cancelled from any thread."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def check(self) -> None:
        """Raises Cancelled if the job was cancelled."""
        if self.cancelled.is_set():
            raise Cancelled


class RenderQueue:
    """First-in-first-out queue of jobs; the first one is running.

    A stream whose reader does not keep up lends its turn to the next job (`lend`) and waits for it again (`wait`) when the reader goes on.

    Args:
      max_waiting: jobs that may wait behind the running one.
      cached_persons: persons whose networks stay in memory (LRU cache).
      max_stalled: jobs that may have lent their turn; a further one cancels the one that has for longest.
    """

    def __init__(self, max_waiting: int, cached_persons: int, max_stalled: int = 4):
        self._max_jobs, self._max_cached, self._max_stalled = max_waiting + 1, cached_persons, max_stalled
        self._jobs: list[RenderJob] = []
        self._stalled: list[RenderJob] = []
        self._cache: collections.OrderedDict[tuple, Person] = collections.OrderedDict()
        self._changed = threading.Condition()

    def submit(self) -> RenderJob:
        """Adds a job; `remove` must follow.

        Raises:
          QueueFull: too many are waiting.
        """
        with self._changed:
            if len(self._jobs) >= self._max_jobs:
                raise QueueFull(f"{self._max_jobs - 1} renders are waiting already: try again in a minute.")
            job = RenderJob()
            self._jobs.append(job)
            return job

    def remove(self, job: RenderJob) -> None:
        """Removes a job, finished or not."""
        with self._changed:
            for jobs in (self._jobs, self._stalled):
                if job in jobs:
                    jobs.remove(job)
            self._changed.notify_all()

    def lend(self, job: RenderJob) -> None:
        """Lets the next job run; `wait` must follow before `job` goes on."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._stalled.append(job)
            if len(self._stalled) > self._max_stalled:
                self._stalled.pop(0).cancelled.set()
            self._changed.notify_all()

    def wait(self, job: RenderJob, every: float = 0.5) -> Iterator[int]:
        """Yields the number of jobs ahead, every `every` seconds, until the job may run.

        Raises:
          Cancelled: the job was cancelled.
        """
        with self._changed:
            if job in self._stalled:
                self._stalled.remove(job)
                # Right behind the running one: it has waited for its turn before.
                self._jobs.insert(min(1, len(self._jobs)), job)
        while True:
            job.check()
            with self._changed:
                if (ahead := self._jobs.index(job)) == 0:
                    return
            yield ahead
            with self._changed:
                if self._jobs.index(job):
                    self._changed.wait(every)

    def open(self, person: ListedPerson, precision: str = "fp32") -> Person:
        """The person's networks from the LRU cache; call it only from the running job.

        They are loaded again after a checkpoint was added (by a training), or for another precision (see `open_person`).

        Raises:
          InputError: as `open_person`, or a file of the person can't be read.
        """
        key = (person.parts, precision, tuple(_newest_change(person.parts.folder / stage) for stage in person.parts.stages))
        if key not in self._cache:
            for old in [cached for cached in self._cache if cached[0].folder == person.parts.folder]:
                del self._cache[old]
            try:
                self._cache[key] = open_person(person.parts, precision)
            except InputError:
                raise
            except Exception as error:
                logger.error("%s can't be opened.", person.parts.folder, exc_info=error)
                raise InputError(broken_reason(person.name, error)) from error
        self._cache.move_to_end(key)
        while len(self._cache) > self._max_cached:
            self._cache.popitem(last=False)
        return self._cache[key]


def _newest_change(workdir: Path) -> int:
    """Modification time in nanoseconds of a work folder's checkpoints or selection; 0 without either."""
    times = [path.stat().st_mtime_ns for path in (workdir / "checkpoints", workdir / "selected.json") if path.exists()]
    return max(times, default=0)


# -------- Shared state of a running studio: render tasks (videos, previews, comparisons), settings, portraits of the persons

# -------- Render tasks: generators that wait in the queue, report progress, can be cancelled, and return their result

LANDMARK_SIZE = 384
PROGRESS_INTERVAL = 0.5
"""Seconds between two progress reports."""


@dataclasses.dataclass(frozen=True)
class RenderProgress:
    """Progress of a render.

    Attributes:
      ahead: jobs before it in the queue.
      done, total: frames; total is 0 while networks are loaded and the motion is predicted.
      seconds_left: estimate; None while unknown.
    """

    ahead: int = 0
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


RenderResult = TypeVar("RenderResult")
RenderTask = Generator[RenderProgress, None, RenderResult]
"""Yields progress; returns the result."""


class Renders:
    """The renders that a visitor can ask for.

    Args:
      queue: runs one job at a time and holds the loaded persons.
      workspace: receives the results.
      limits: `preview_seconds` is used.
    """

    def __init__(self, queue: RenderQueue, workspace: SessionFolder, limits: Limits):
        self._queue, self._workspace, self._limits = queue, workspace, limits

    def video(self, job: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> RenderTask[Path]:
        """Renders the complete recording; returns the file.

        Raises:
          InputError: as `inference.person.plan_motion` and `render_frames`.
          Cancelled: the job was cancelled; no file is left.
        """
        out = self._workspace.new_file("results", ".webm" if controls.bg == TRANSPARENT else ".mp4")
        opened = yield from self._open(job, person, controls.precision)
        plan = plan_motion(opened, load_audio(audio), controls)
        with contextlib.closing(render_frames(opened, plan, controls)) as frames:
            yield from self._write(job, frames, plan.frames, out, audio, controls, opened)
        return out

    def first_frame(self, job: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> RenderTask[np.ndarray]:
        """Renders only the first frame; returns it, uint8 [H, W, 3 or 4]."""
        opened = yield from self._open(job, person, controls.precision)
        plan = plan_motion(opened, load_audio(audio), controls)
        with contextlib.closing(render_frames(opened, plan, controls)) as frames:
            return next(frames)

    def landmarks(self, job: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> RenderTask[Path]:
        """Draws the landmarks of the first seconds, as predicted and after the controls; returns the file."""
        opened = yield from self._open(job, person, controls.precision)
        plan = self._plan_preview(opened, audio, controls)
        pictures = landmark_frames([plan.predicted, plan.motion], ["network", "controls"], opened.subject.mean_face, LANDMARK_SIZE)
        out = self._workspace.new_file("results", ".mp4")
        yield from self._write(job, pictures, plan.frames, out, audio, Controls(preset="veryfast"))
        return out

    def comparison(self, job: RenderJob, person: ListedPerson, audio: Path, pair: tuple[Controls, Controls]) -> RenderTask[Path]:
        """Renders the first seconds with two settings, side by side (A left); returns the file."""
        # One precision, so that one copy of the networks is in memory: that of the second setting, the current one.
        precision = pair[1].precision
        opened = yield from self._open(job, person, precision)
        # One size and an opaque background, so that both fit into one picture.
        size = pair[0].size or opened.subject.size
        first, second = (
            dataclasses.replace(controls, size=size, precision=precision, bg="original" if controls.bg == TRANSPARENT else controls.bg)
            for controls in pair
        )
        plans = [self._plan_preview(opened, audio, controls) for controls in (first, second)]
        with (
            contextlib.closing(render_frames(opened, plans[0], first)) as left,
            contextlib.closing(render_frames(opened, plans[1], second)) as right,
        ):
            both = (np.concatenate(halves, axis=1) for halves in zip(left, right, strict=True))
            out = self._workspace.new_file("results", ".mp4")
            yield from self._write(job, both, plans[0].frames, out, audio, Controls(), opened)
        return out

    def streamed(self, job: RenderJob, person: ListedPerson, upload: Path, controls: Controls) -> Generator[bytes, None, None]:
        """An uploaded recording as a fragmented mp4, while it is rendered; raises as `accept_audio` and `video`.

        The upload is decoded when the job's turn has come, and may be deleted after the first piece.
        """
        for _ in self._queue.wait(job):
            pass
        wav = accept_audio(upload, self._workspace, self._limits)
        try:
            samples = load_audio(wav)
        finally:
            wav.unlink(missing_ok=True)
        job.check()
        opened = self._queue.open(person, controls.precision)
        with contextlib.closing(stream(opened, samples, controls)) as chunks:
            for chunk in chunks:
                job.check()
                yield chunk

    def _open(self, job: RenderJob, person: ListedPerson, precision: str) -> RenderTask[Person]:
        """Waits in the queue; returns the person's networks."""
        for ahead in self._queue.wait(job):
            yield RenderProgress(ahead)
        yield RenderProgress()
        return self._queue.open(person, precision)

    def _plan_preview(self, opened: Person, audio: Path, controls: Controls) -> MotionPlan:
        return plan_motion(opened, load_audio(audio)[: round(self._limits.preview_seconds * SAMPLE_RATE)], controls)

    def _write(
        self,
        job: RenderJob,
        frames: Iterable[np.ndarray],
        total: int,
        out: Path,
        audio: Path,
        controls: Controls,
        person: Person | None = None,
    ) -> Iterator[RenderProgress]:
        """Encodes frames; with a person, an mp4 gets its provenance before it gets its name."""
        finish = None if person is None else provenance.stamper(out, provenance.provenance_of(person.parts, person.subject.meta))
        started = reported = time.monotonic()
        with open_writer(out, audio, FPS, controls, alpha=controls.bg == TRANSPARENT, finish=finish) as writer:
            for frame in frames:
                job.check()
                writer.write(frame)
                now = time.monotonic()
                if now - reported >= PROGRESS_INTERVAL:
                    reported = now
                    yield RenderProgress(0, writer.count, total, (now - started) / writer.count * (total - writer.count))
        yield RenderProgress(0, total, total, 0.0)


# -------- State shared by all tabs and routes of one studio


@dataclasses.dataclass(frozen=True)
class StreamRequest:
    """The render behind the address of a stream; `created` is on the monotonic clock, `picture` the background of its own."""

    person: ListedPerson
    audio: Path
    controls: Controls
    created: float
    picture: Path | None = None


class Context:
    """One studio.

    Attributes:
      people: the served persons.
      workspace: the private folder.
      limits: see `Limits`.
      queue: the render queue.
      renders: the render tasks.
      quota: of the private folder.
      root_path: path below which a proxy shows the studio; "" without one.
    """

    def __init__(self, people: PersonList, workspace: SessionFolder, limits: Limits, root_path: str = ""):
        self.people, self.workspace, self.limits, self.root_path = people, workspace, limits, root_path
        self.quota = Quota(workspace, limits.folder_bytes)
        self.queue = RenderQueue(limits.max_waiting, limits.cached_persons, limits.max_stalled)
        self.renders = Renders(self.queue, workspace, limits)
        self._jobs: dict[str, RenderJob] = {}
        self._streams: dict[str, StreamRequest] = {}
        self._lock = threading.Lock()

    def submit(self, session: str) -> RenderJob:
        """A job for a visitor's session; the session's previous job is cancelled.

        Raises:
          QueueFull: as `RenderQueue.submit`.
          StorageFull: the result could not be stored.
        """
        self.cancel(session)
        self.quota.require()
        job = self.queue.submit()
        with self._lock:
            self._jobs[session] = job
        return job

    def finish(self, session: str, job: RenderJob) -> None:
        """Removes a session's job from the queue."""
        with self._lock:
            if self._jobs.get(session) is job:
                del self._jobs[session]
        self.queue.remove(job)

    def cancel(self, session: str) -> None:
        """Cancels the session's running or waiting job, if any."""
        with self._lock:
            job = self._jobs.pop(session, None)
        if job is not None:
            job.cancelled.set()

    def register_stream(self, person: ListedPerson, audio: Path, controls: Controls, picture: Path | None = None) -> str:
        """A token for the address `/stream/TOKEN`.

        It expires, and its files are deleted, after it was not used for `limits.stream_seconds`.
        """
        token = uuid.uuid4().hex
        self._expire_streams()
        with self._lock:
            self._streams[token] = StreamRequest(person, audio, controls, time.monotonic(), picture)
        return token

    def stream_request(self, token: str) -> StreamRequest:
        """The request registered under a token.

        Raises:
          InputError: the token is unknown or has expired.
        """
        self._expire_streams()
        with self._lock:
            if token in self._streams:
                # It may wait in the queue for long, and be watched again.
                self._streams[token] = dataclasses.replace(self._streams[token], created=time.monotonic())
                return self._streams[token]
        raise InputError("The address of this stream has expired: start it again from the page.")

    def _expire_streams(self) -> None:
        now = time.monotonic()
        with self._lock:
            expired = {token: old for token, old in self._streams.items() if now - old.created >= self.limits.stream_seconds}
            for token in expired:
                del self._streams[token]
        for request in expired.values():
            for path in (request.audio, request.picture):
                if path is not None:
                    path.unlink(missing_ok=True)

    def error_message(self, error: Exception, language: str) -> str:
        """The sentence for a visitor: an InputError's own, without the server's folders; of other errors, which are logged, no details."""
        if not isinstance(error, InputError):
            logger.error("Unexpected error in the studio.", exc_info=error)
            return text("error.unexpected", language)
        return self.without_folders(str(error))

    def without_folders(self, sentence: str) -> str:
        """A sentence without the paths of the server's folders."""
        return self.people.without_folders(sentence.replace(f"{self.workspace.folder}/", ""))


# -------- Portraits: the first frame of every person speaking silence, rendered once

SILENCE_SECONDS = 0.4
THUMBNAIL_SIZE = 192


class Portraits:
    """Portraits, kept in memory by person."""

    def __init__(self, context: Context):
        self._context, self._lock = context, threading.Lock()
        self._portraits: dict[ListedPerson, np.ndarray] = {}

    def get(self, person: ListedPerson) -> np.ndarray:
        """uint8 [192, 192, 3]; the first call for a person renders it, after waiting in the render queue.

        Raises:
          InputError: as `inference.person.open_person`, or the queue is full.
        """
        with self._lock:
            if person not in self._portraits:
                self._portraits[person] = self._render(person)
            return self._portraits[person]

    def _render(self, person: ListedPerson) -> np.ndarray:
        queue = self._context.queue
        job = queue.submit()
        try:
            for _ in queue.wait(job):
                pass
            opened = queue.open(person)
            controls = Controls(pose="still", blink_mode="none", temperature=0.0)
            plan = plan_motion(opened, np.zeros(round(SILENCE_SECONDS * SAMPLE_RATE), np.float32), controls)
            with contextlib.closing(render_frames(opened, plan, controls)) as frames:
                return np.asarray(thumbnail(next(frames)))
        finally:
            queue.remove(job)


def thumbnail(picture: np.ndarray) -> Image.Image:
    """A square of `THUMBNAIL_SIZE` pixels from a rendered picture, uint8 [H, W, 3]."""
    return Image.fromarray(picture).resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
