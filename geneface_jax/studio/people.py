"""The persons that a studio serves: subject folders by name. A request names a person, never a path."""

import contextlib
import dataclasses
import logging
import os
from pathlib import Path

from data_tools.errors import InputError
from data_tools.io import read_json
from geneface_jax.io import configs
from geneface_jax.io.person_folder import SubjectParts, find_parts, folder_of

logger = logging.getLogger(__name__)


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


@dataclasses.dataclass(frozen=True)
class BrokenPerson:
    """A folder with all of a person's parts, one of which can't be read: its name and the reason, one sentence."""

    name: str
    reason: str


class PersonList:
    """The persons in a folder; read at every call, so that a newly trained person appears. One that is broken leaves the others alone.

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
        self._reported: set[str] = set()

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
        return [person.name for person in self.all()]

    def all(self) -> list[ListedPerson]:
        """All persons that can be rendered, sorted by name."""
        return [person for person in self._read() if isinstance(person, ListedPerson)]

    def broken(self) -> list[BrokenPerson]:
        """The persons that can't be rendered because a file is damaged, sorted by name."""
        return [person for person in self._read() if isinstance(person, BrokenPerson)]

    def get(self, name: object) -> ListedPerson:
        """The person with a name. Names are compared, never opened as paths.

        Raises:
          InputError: no person has this name, or the person is broken.
        """
        for person in self._read():
            if person.name == name:
                if isinstance(person, BrokenPerson):
                    raise InputError(person.reason)
                return person
        raise InputError("There is no person of that name: choose one from the list.")

    def _read(self) -> list[ListedPerson | BrokenPerson]:
        folders = {}
        for parent in (self._served, self.folder):
            # The folder of people may be gone, on a disk that was taken out.
            with contextlib.suppress(OSError):
                folders.update({path.name: path for path in parent.iterdir() if not path.name.startswith(".")})
        found: list[ListedPerson | BrokenPerson] = []
        for folder in [self.single] if self.single else [folders[name] for name in sorted(folders)]:
            try:
                # A link could lead out of the served folder.
                if folder.is_dir() and (self.single or not folder.is_symlink()) and (person := _read_person(folder)) is not None:
                    found.append(person)
            except Exception as error:  # whatever is wrong with one person must not keep the studio from serving the others
                reason = broken_reason(folder.name, error)
                if reason not in self._reported:
                    self._reported.add(reason)
                    logger.warning("%s", reason, exc_info=None if isinstance(error, InputError) else error)
                found.append(BrokenPerson(folder.name, reason))
        return found


def _read_person(folder: Path) -> ListedPerson | None:
    """The person in a folder; None for a corpus, or a person that is still being trained. Raises what its files raise."""
    path = folder / "dataset" / "meta.json"
    try:
        parts = find_parts(folder)
    except InputError:
        return None
    if not path.exists():
        return None
    meta = read_json(path)
    size, frames, consent = meta["size"], meta["n_frames"], meta.get("consent") or ""
    if not (type(size) is int and size > 0 and type(frames) is int and frames > 0 and isinstance(consent, str)):
        raise InputError(f"{path} has no valid size, n_frames or consent: restore it, or prepare the video again.")
    return ListedPerson(folder.resolve().name, parts, consent, size, frames)


def broken_reason(name: str, error: Exception) -> str:
    """One sentence for any exception of reading a person's files."""
    if isinstance(error, InputError):
        return f"{name} is broken: {str(error)[:1].lower() if not str(error).startswith('/') else str(error)[:1]}{str(error)[1:]}"
    detail = f"{type(error).__name__}: {error}"
    return f"{name} is broken, a file of it can't be read ({detail[:200]}): restore its folder, or train it again."
