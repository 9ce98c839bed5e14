"""Bounded render queue, and an LRU cache of loaded persons."""

from __future__ import annotations

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

# ----------------------------------------------------------------------------------------------------
# The people a studio serves: subject folders by name. A visitor names a person and never a path.

THUMBNAIL_SIZE = 192


@dataclasses.dataclass(frozen=True)
class ListedPerson:
    """One served person.

    Attributes:
      name: of the folder; what visitors choose by.
      parts: the networks.
      consent: what the dataset's meta.json says; "" where it says nothing.
      size: pixels per side as trained.
      frames: of the training video.
    """

    name: str
    parts: SubjectParts
    consent: str
    size: int
    frames: int


class PersonList:
    """The people in a folder, looked up anew each time so that a person just trained is there.

    Args:
      folder: a folder of subject folders, or one subject folder.

    Raises:
      InputError: no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder} to serve people from; name a subject folder or a folder of them")
        self.alone = folder if (folder / "dataset").is_dir() else None
        self.folder = folder.parent if self.alone else folder

    def names(self) -> list[str]:
        """Names of everybody who can speak, in order."""
        return [person.name for person in self._all()]

    def get(self, name: object) -> ListedPerson:
        """The person of a name.

        Raises:
          InputError: nobody has this name, whatever it looks like: names are compared, never opened.
        """
        for person in self._all():
            if person.name == name:
                return person
        raise InputError("there is no person of that name here; choose one from the list")

    def _all(self) -> list[ListedPerson]:
        folders = [self.alone] if self.alone else sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
        found = []
        for folder in folders:
            # A link could lead out of the served folder.
            if not folder.is_dir() or (folder.is_symlink() and not self.alone):
                continue
            try:
                parts, meta = find_parts(folder), read_json(folder / "dataset" / "meta.json")
            except InputError:
                continue  # a corpus, or a person that is still being trained
            found.append(ListedPerson(folder.resolve().name, parts, meta.get("consent") or "", meta["size"], meta["n_frames"]))
        return found


def thumbnail(picture: np.ndarray) -> Image.Image:
    """A small square of a rendered picture, uint8 [H, W, 3]."""
    return Image.fromarray(picture).resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)


# ----------------------------------------------------------------------------------------------------
# Whose turn it is: one render at a time, a few waiting, the rest refused; and the people whose networks are warm.


class QueueFull(InputError):
    """Too many are waiting already."""


class Cancelled(Exception):
    """The visitor does not want it any more."""


class RenderJob:
    """One visitor's render, waiting or running; may be cancelled from anywhere."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def check(self) -> None:
        """Raises Cancelled once it was."""
        if self.cancelled.is_set():
            raise Cancelled


class RenderQueue:
    """A queue of tickets; the first one is being served.

    Args:
      waiting: how many may stand behind the first.
      warm_people: how many people's networks stay in memory; the one asked for longest ago goes.
    """

    def __init__(self, waiting: int, warm_people: int):
        self._most, self._most_warm = waiting + 1, warm_people
        self._queue: list[RenderJob] = []
        self._warm: collections.OrderedDict[tuple, OpenPerson] = collections.OrderedDict()
        self._changed = threading.Condition()

    def enter(self) -> RenderJob:
        """Draws a ticket; `leave` must follow.

        Raises:
          Busy: too many are waiting.
        """
        with self._changed:
            if len(self._queue) >= self._most:
                raise QueueFull(f"{self._most - 1} renders are waiting already; try again in a minute")
            ticket = RenderJob()
            self._queue.append(ticket)
            return ticket

    def leave(self, ticket: RenderJob) -> None:
        """Gives a ticket back, whatever became of it."""
        with self._changed:
            if ticket in self._queue:
                self._queue.remove(ticket)
            self._changed.notify_all()

    def wait(self, ticket: RenderJob, every: float = 0.5) -> Iterator[int]:
        """Yields how many are in front, every so many seconds, until it is the ticket's turn.

        Raises:
          Cancelled: the ticket was.
        """
        while True:
            ticket.check()
            with self._changed:
                if (ahead := self._queue.index(ticket)) == 0:
                    return
            yield ahead
            with self._changed:
                if self._queue.index(ticket):
                    self._changed.wait(every)

    def open(self, person: ListedPerson, precision: str = "fp32") -> OpenPerson:
        """The person's networks; only for whoever's turn it is.

        They are read again when a checkpoint was added since, as after a training, or when another precision is asked for.

        Args:
          person: whose.
          precision: see `pipeline.open_person`.
        """
        key = (person.parts, precision, tuple(_age(person.parts.folder / stage) for stage in person.parts.stages))
        if key not in self._warm:
            for old in [known for known in self._warm if known[0].folder == person.parts.folder]:
                del self._warm[old]
            self._warm[key] = open_person(person.parts, precision)
        self._warm.move_to_end(key)
        while len(self._warm) > self._most_warm:
            self._warm.popitem(last=False)
        return self._warm[key]


def _age(workdir) -> int:
    times = [path.stat().st_mtime_ns for path in (workdir / "checkpoints", workdir / "selected.json") if path.exists()]
    return max(times, default=0)
