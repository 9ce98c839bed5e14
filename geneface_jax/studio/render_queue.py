"""Bounded render queue, LRU cache of loaded persons, render tasks, and the state that all parts of a studio share."""

import collections
import contextlib
import dataclasses
import logging
import os
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
from data_tools.io import read_json
from data_tools.video import open_writer
from geneface_jax.inference import provenance
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.inference.person import MotionPlan, Person, open_person, plan_motion, render_frames
from geneface_jax.inference.streaming import stream
from geneface_jax.io import configs
from geneface_jax.io.person_folder import SubjectParts, find_parts, folder_of
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.studio.i18n import text
from geneface_jax.studio.security import Limits
from geneface_jax.studio.uploads import SessionFolder

# -------- Bounded render queue, the list of served persons, and an LRU cache of loaded persons

# -------- Served persons: subject folders by name. A request names a person, never a path

THUMBNAIL_SIZE = 192


@dataclasses.dataclass(frozen=True)
class ListedPerson:
    """One served person.

    Attributes:
      name: of the folder; the name that visitors choose.
      parts: the networks.
      consent: from the dataset's meta.json; "" if not stated.
      size: pixels per side as trained.
      frames: of the training video.
    """

    name: str
    parts: SubjectParts
    consent: str
    size: int
    frames: int


class PersonList:
    """The persons in a folder; read at every call, so that a newly trained person appears.

    Args:
      folder: a folder of subject folders, or one subject folder.
      added: where new people are added, if not in `folder`; they are listed too, and win over those of the same name there.

    Raises:
      InputError: no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str], added: Path | None = None):
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}: name a subject folder or a folder of subject folders.")
        self.single = folder if (folder / "dataset").is_dir() else None
        self._served = folder.parent if self.single else folder
        self.folder = added or self._served

    @classmethod
    def open(cls, subject: str | None) -> "PersonList":
        """The people of a folder, or of a subject folder, or a shipped person; all shipped people when None.

        Nothing is added to an installed wheel: its people are served with people/ below the current folder, which is made for new ones.

        Raises:
          InputError: no such folder, or people/ can't be made.
        """
        folder = configs.shipped("checkpoints") if subject is None else folder_of(subject)
        if not folder.is_relative_to(configs.INSTALLED):
            return cls(folder)
        added = Path("people")
        try:
            added.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"New people can't be kept in {added.resolve()} ({error.strerror}): name a folder with --subject.") from error
        return cls(folder, added)

    def without_folders(self, sentence: str) -> str:
        """A sentence without the paths of the served folders."""
        return sentence.replace(f"{self._served}/", "").replace(f"{self.folder}/", "")

    def names(self) -> list[str]:
        """Names of all persons that can be rendered, sorted."""
        return [person.name for person in self._all()]

    def get(self, name: object) -> ListedPerson:
        """The person with a name. Names are compared, never opened as paths.

        Raises:
          InputError: no person has this name.
        """
        for person in self._all():
            if person.name == name:
                return person
        raise InputError("There is no person of that name: choose one from the list.")

    def _all(self) -> list[ListedPerson]:
        folders = {path.name: path for parent in (self._served, self.folder) for path in parent.iterdir() if not path.name.startswith(".")}
        found = []
        for folder in [self.single] if self.single else [folders[name] for name in sorted(folders)]:
            # A link could lead out of the served folder.
            if not folder.is_dir() or (folder.is_symlink() and not self.single):
                continue
            try:
                parts, meta = find_parts(folder), read_json(folder / "dataset" / "meta.json")
            except InputError:
                continue  # a corpus, or a person that is still being trained
            found.append(ListedPerson(folder.resolve().name, parts, meta.get("consent") or "", meta["size"], meta["n_frames"]))
        return found


def thumbnail(picture: np.ndarray) -> Image.Image:
    """A square of `THUMBNAIL_SIZE` pixels from a rendered picture, uint8 [H, W, 3]."""
    return Image.fromarray(picture).resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)


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

    Args:
      max_waiting: jobs that may wait behind the running one.
      cached_persons: persons whose networks stay in memory (LRU cache).
    """

    def __init__(self, max_waiting: int, cached_persons: int):
        self._max_jobs, self._max_cached = max_waiting + 1, cached_persons
        self._jobs: list[RenderJob] = []
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
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify_all()

    def wait(self, job: RenderJob, every: float = 0.5) -> Iterator[int]:
        """Yields the number of jobs ahead, every `every` seconds, until the job may run.

        Raises:
          Cancelled: the job was cancelled.
        """
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
        """
        key = (person.parts, precision, tuple(_newest_change(person.parts.folder / stage) for stage in person.parts.stages))
        if key not in self._cache:
            for old in [cached for cached in self._cache if cached[0].folder == person.parts.folder]:
                del self._cache[old]
            self._cache[key] = open_person(person.parts, precision)
        self._cache.move_to_end(key)
        while len(self._cache) > self._max_cached:
            self._cache.popitem(last=False)
        return self._cache[key]


def _newest_change(workdir: Path) -> int:
    """Modification time in nanoseconds of a work folder's checkpoints or selection; 0 without either."""
    times = [path.stat().st_mtime_ns for path in (workdir / "checkpoints", workdir / "selected.json") if path.exists()]
    return max(times, default=0)


# -------- Shared state of a running studio: render tasks (videos, previews, comparisons), settings, portraits of the persons

logger = logging.getLogger(__name__)

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
        transparent = controls.bg == TRANSPARENT
        out = self._workspace.new_file("results", ".webm" if transparent else ".mp4")
        opened = yield from self._open(job, person, controls.precision)
        plan = plan_motion(opened, load_audio(audio), controls)
        with contextlib.closing(render_frames(opened, plan, controls)) as frames:
            yield from self._write(job, frames, plan.frames, out, audio, controls, transparent)
        if not transparent:
            provenance.stamp(out, provenance.provenance_of(person.parts, opened.subject.meta))
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
        yield from self._write(job, pictures, plan.frames, out, audio, Controls(preset="veryfast"), False)
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
            yield from self._write(job, both, plans[0].frames, out, audio, Controls(), False)
        provenance.stamp(out, provenance.provenance_of(person.parts, opened.subject.meta))
        return out

    def streamed(self, job: RenderJob, person: ListedPerson, audio: Path, controls: Controls) -> Generator[bytes, None, None]:
        """The complete recording as a fragmented mp4, while it is rendered; raises as `video`."""
        for _ in self._queue.wait(job):
            pass
        opened = self._queue.open(person, controls.precision)
        with contextlib.closing(stream(opened, load_audio(audio), controls)) as chunks:
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
        self, job: RenderJob, frames: Iterable[np.ndarray], total: int, out: Path, audio: Path, controls: Controls, alpha: bool
    ) -> Iterator[RenderProgress]:
        started = reported = time.monotonic()
        with open_writer(out, audio, FPS, controls, alpha=alpha) as writer:
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
    """The render behind the address of a stream; `created` is on the monotonic clock."""

    person: ListedPerson
    audio: Path
    controls: Controls
    created: float


class Context:
    """One studio.

    Attributes:
      people: the served persons.
      workspace: the private folder.
      limits: see `Limits`.
      queue: the render queue.
      renders: the render tasks.
    """

    def __init__(self, people: PersonList, workspace: SessionFolder, limits: Limits):
        self.people, self.workspace, self.limits = people, workspace, limits
        self.queue = RenderQueue(limits.max_waiting, limits.cached_persons)
        self.renders = Renders(self.queue, workspace, limits)
        self._jobs: dict[str, RenderJob] = {}
        self._streams: dict[str, StreamRequest] = {}
        self._lock = threading.Lock()

    def submit(self, session: str) -> RenderJob:
        """A job for a visitor's session; the session's previous job is cancelled. Raises as `RenderQueue.submit`."""
        self.cancel(session)
        self.workspace.expire(time.time() - self.limits.keep_seconds)
        job = self.queue.submit()
        with self._lock:
            self._jobs[session] = job
        return job

    def cancel(self, session: str) -> None:
        """Cancels the session's running or waiting job, if any."""
        with self._lock:
            job = self._jobs.pop(session, None)
        if job is not None:
            job.cancelled.set()

    def register_stream(self, person: ListedPerson, audio: Path, controls: Controls) -> str:
        """A token for the address `/stream/TOKEN`, valid for `limits.stream_seconds`."""
        token, now = uuid.uuid4().hex, time.monotonic()
        with self._lock:
            self._streams = {key: old for key, old in self._streams.items() if now - old.created < self.limits.stream_seconds}
            self._streams[token] = StreamRequest(person, audio, controls, now)
        return token

    def stream_request(self, token: str) -> StreamRequest:
        """The request registered under a token.

        Raises:
          InputError: the token is unknown or has expired.
        """
        with self._lock:
            request = self._streams.get(token)
        if request is None or time.monotonic() - request.created >= self.limits.stream_seconds:
            raise InputError("The address of this stream has expired: start it again from the page.")
        return request

    def error_message(self, error: Exception, language: str) -> str:
        """The sentence for a visitor: an InputError's own, without the server's folders; of other errors, which are logged, no details."""
        if not isinstance(error, InputError):
            logger.error("Unexpected error in the studio.", exc_info=error)
            return text("error.unexpected", language)
        return self.people.without_folders(str(error).replace(f"{self.workspace.folder}/", ""))


# -------- Portraits: the first frame of every person speaking silence, rendered once

SILENCE_SECONDS = 0.4


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
