"""Bounded render queue, the list of served persons, and an LRU cache of loaded persons."""

import collections
import dataclasses
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import read_json
from geneface_jax.inference.person import OpenPerson, open_person
from geneface_jax.io.person_folder import SubjectParts, find_parts

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

    Raises:
      InputError: no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}: name a subject folder or a folder of subject folders.")
        self.single = folder if (folder / "dataset").is_dir() else None
        self.folder = folder.parent if self.single else folder

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
        folders = [self.single] if self.single else sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
        found = []
        for folder in folders:
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
        self._cache: collections.OrderedDict[tuple, OpenPerson] = collections.OrderedDict()
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

    def open(self, person: ListedPerson, precision: str = "fp32") -> OpenPerson:
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
