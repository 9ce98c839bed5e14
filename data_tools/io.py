"""Files and folders: atomic writes, JSON and npz, checksummed manifests, resumable work folders with locks, full-disk errors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError

# ----------------------------------------------------------------------------------------------------
# Whole files or none: everything is written under a temporary name and renamed.


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes UTF-8 text to `path` (its folder is made), atomically; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Writes `value` as indented JSON, atomically; returns the path."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Raises:
      InputError: it isn't there, or it isn't JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} doesn't exist: check the folder's name.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} isn't a JSON file ({error}): delete it and make it again.") from error


def write_folder(path: str | os.PathLike, fill: Callable[[Path], None]) -> Path:
    """Makes a folder that is whole or absent: `fill(temporary_folder)` writes it, then it replaces `path`."""
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fill(temporary)
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


# ----------------------------------------------------------------------------------------------------
# Disks that are full or can't be written to, told in one sentence before or after the fact.

SPARE = 64 << 20
"""Bytes that must stay free beside what is about to be written: logs, curves, the file system's own tables."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def require_space(folder: str | os.PathLike, wanted: int, what: str) -> None:
    """Checks that `wanted` bytes and `SPARE` fit on the disk of `folder` (which exists).

    Raises:
      InputError: they don't.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE:
        raise InputError(
            f"the disk of {folder} has {_megabytes(free)} free and {what} needs {_megabytes(wanted + SPARE)}: free some space and run the "
            "same command again, it goes on from the newest checkpoint."
        )


def require_writable(folder: str | os.PathLike) -> None:
    """Makes `folder` where it is absent, and checks that a file can be made in it.

    Raises:
      InputError: it can't.
    """
    with disk_errors_as_input_errors(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".writable-"):
            pass


@contextmanager
def disk_errors_as_input_errors(folder: str | os.PathLike) -> Iterator[None]:
    """Turns errors of a full or read-only disk, whoever raised them, into an InputError about `folder`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        sentence = _sentence(error, folder)
        if sentence is None:
            raise
        raise InputError(sentence) from error


def _sentence(error: Exception, folder: str | os.PathLike) -> str | None:
    # tensorstore reports the system's error as text inside a ValueError or an ExceptionGroup's first member.
    text = " ".join(str(part) for part in (error, *getattr(error, "exceptions", ())))
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or os.strerror(errno.ENOSPC) in text or "RESOURCE_EXHAUSTED" in text:
        return f"the disk of {folder} is full: free some space and run the same command again, it goes on from the newest checkpoint."
    if number in _READ_ONLY or os.strerror(errno.EROFS) in text:
        return f"{folder} can't be written to ({os.strerror(number) if number else 'read-only file system'}): name another --workdir."
    return None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


# ----------------------------------------------------------------------------------------------------
# A folder that fills step by step, can be left and taken up again, and becomes the result by one rename.

_STAMPS, _LOCK = "steps.json", ".lock"


def settings_fingerprint(*parts: Any) -> str:
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
                remove_folder(self.path(name))
        write_json(self.path(_STAMPS), {**stamps, step: {"started": key}})
        yield
        write_json(self.path(_STAMPS), {**self._stamps(), step: {"started": key, "finished": key}})

    def publish(self, scratch: list[str]) -> Path:
        """Removes the scratch files and renames the folder to its final name; an older result goes only when the new one stands."""
        for name in [*scratch, _STAMPS, _LOCK]:
            remove_folder(self.path(name))
        old = self.out.with_name(self.out.name + ".old")
        remove_folder(old)
        if self.out.exists():
            os.rename(self.out, old)
        os.rename(self.folder, self.out)
        remove_folder(old)
        return self.out


def remove_folder(path: Path) -> None:
    """Deletes a file or a folder; it may be absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_full_as_input_error(folder: Path) -> Iterator[None]:
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


# ----------------------------------------------------------------------------------------------------
# A folder that is whole or absent.


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `out` to fill; it becomes `out` at the end, or is removed when the block raises.

    Args:
      out: absent or an empty folder; its parents are made.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        temporary.chmod(0o755)
        yield temporary
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


# ----------------------------------------------------------------------------------------------------
# What a folder held when it was whole: sizes and checksums of its files, so that damage is seen before it is believed.

MANIFEST = "manifest.json"
IGNORED = frozenset({MANIFEST, "commit_success.txt"})
"""Names that say nothing about the content: this file, and orbax's note of where it wrote."""
_CHUNK = 1 << 20
_SYNCS = os.name == "posix"
"""Windows syncs neither folders nor files that are open for reading."""


def write_manifest(folder: Path) -> None:
    """Writes `folder/manifest.json` over all files below `folder`, once each of them is on the disk itself (fsync)."""
    content = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in IGNORED:
            content[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "crc32": _checksum(path, sync=True)}
    write_json(folder / MANIFEST, {"files": content})
    for path in (folder / MANIFEST, folder) if _SYNCS else ():
        _sync(path)


def manifest_damage(folder: Path) -> str | None:
    """What is wrong with `folder`, as half a sentence; None when it is as its manifest says, or has none (made before there were any)."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        content = read_json(folder / MANIFEST)["files"]
    except (InputError, KeyError, TypeError):
        return f"its {MANIFEST} can't be read"
    for name, wanted in content.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != wanted["bytes"]:
            return f"{name} has {path.stat().st_size} bytes of {wanted['bytes']}"
        if _checksum(path) != wanted["crc32"]:
            return f"{name} doesn't hold the bytes that were written"
    return None


def _checksum(path: Path, sync: bool = False) -> int:
    value = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
        if sync and _SYNCS:
            os.fsync(stream.fileno())
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
