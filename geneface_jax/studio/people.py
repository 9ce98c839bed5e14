"""The people a studio serves: subject folders by name. A visitor names a person and never a path."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import read_json
from geneface_jax.io.person_folder import SubjectParts, find_parts

THUMBNAIL_SIZE = 192


@dataclasses.dataclass(frozen=True)
class Person:
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


class People:
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

    def get(self, name: object) -> Person:
        """The person of a name.

        Raises:
          InputError: nobody has this name, whatever it looks like: names are compared, never opened.
        """
        for person in self._all():
            if person.name == name:
                return person
        raise InputError("there is no person of that name here; choose one from the list")

    def _all(self) -> list[Person]:
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
            found.append(Person(folder.resolve().name, parts, meta.get("consent") or "", meta["size"], meta["n_frames"]))
        return found


def thumbnail(picture: np.ndarray) -> Image.Image:
    """A small square of a rendered picture, uint8 [H, W, 3]."""
    return Image.fromarray(picture).resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
