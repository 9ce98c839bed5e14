"""A folder that fills step by step, can be left and taken up again, and becomes the result by one rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError

_STAMPS, _LOCK = "steps.json", ".lock"


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: str | os.PathLike) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Writes under a temporary name, then renames: the file is never there in part."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """UTF-8 JSON, written as `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """`numpy.savez_compressed` under a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp.npz")
    try:
        np.savez_compressed(temporary, **arrays)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file (no pickles)."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


class Workspace:
    """`<out>.partial` beside the folder that is being made.

    Each step has a key, a hash of what it depends on. A step counts as done when it was finished under the same key. Files that another key
    left are removed before a step starts; files that the same key left (an interrupted run) stay, for the step to take up.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other runs out of this folder for the length of the block (where the system has file locks).

        Raises:
          InputError: another run is at work here.
        """
        try:
            import fcntl
        except ImportError:
            yield
            return
        with open(self.path(_LOCK), "w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(f"another run is making {self.out}: wait for it to end, or stop it.") from error
            yield

    def path(self, name: str) -> Path:
        """A file or folder inside."""
        return self.folder / name

    def _stamps(self) -> dict[str, dict[str, str]]:
        try:
            return json.loads(self.path(_STAMPS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def done(self, step: str, key: str) -> bool:
        """Whether the step was finished under this key."""
        return self._stamps().get(step, {}).get("finished") == key

    @contextlib.contextmanager
    def step(self, step: str, key: str, files: list[str]) -> Iterator[None]:
        """Runs a step that leaves `files`; what another key left under these names is removed first, what this key left stays."""
        stamps = self._stamps()
        if stamps.get(step, {}).get("started") != key:
            for name in files:
                remove(self.path(name))
        write_json(self.path(_STAMPS), {**stamps, step: {"started": key}})
        yield
        write_json(self.path(_STAMPS), {**self._stamps(), step: {"started": key, "finished": key}})

    def publish(self, scratch: list[str]) -> Path:
        """Removes the scratch files and renames the folder to its final name; an older result goes only when the new one stands."""
        for name in [*scratch, _STAMPS, _LOCK]:
            remove(self.path(name))
        old = self.out.with_name(self.out.name + ".old")
        remove(old)
        if self.out.exists():
            os.rename(self.out, old)
        os.rename(self.folder, self.out)
        remove(old)
        return self.out


def remove(path: Path) -> None:
    """Deletes a file or a folder; it may be absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turns "no space left" from anywhere inside into a sentence.

    Raises:
      InputError: the disk (or the user's share of it) is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"the disk of {folder} is full: free some space and run the same command again, which goes on from here."
        ) from error
