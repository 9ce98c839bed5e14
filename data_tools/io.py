"""Files and folders: atomic writes, JSON and npz, checksummed manifests, resumable work folders with locks, full-disk errors."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError

# -------- Atomic writes: everything is written under a temporary name next to the target and renamed when it is complete


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, suffix: str = "", *, per_process: bool = True) -> Iterator[Path]:
    """Yields a temporary file name next to `path`; the file replaces `path` at the end of the block, or is deleted if the block raises.

    Args:
      path: the target; its folder is made.
      suffix: ending of the temporary name (`numpy.savez` insists on ".npz").
      per_process: True puts the process id into the temporary name, so that several processes may write one target. False uses a fixed
        name, so that what a killed process left is overwritten by the next attempt (work folders, which are published with all they hold).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial{suffix}" if per_process else f".{path.name}.tmp{suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """Writes bytes atomically; returns the path."""
    with atomic_path(path, per_process=False) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes UTF-8 text atomically; returns the path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Writes `value` as indented JSON, atomically; returns the path."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Raises:
      InputError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} doesn't exist: check the folder's name.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} isn't a JSON file ({error}): delete it and make it again.") from error


def write_npz(path: str | os.PathLike, **arrays: np.ndarray) -> Path:
    """Writes a compressed npz file atomically; returns the path."""
    values: dict[str, Any] = dict(arrays)
    with atomic_path(path, ".npz", per_process=False) as temporary:
        np.savez_compressed(temporary, **values)
    return Path(path)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an npz file (no pickles)."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, *, replace: bool = True) -> Iterator[Path]:
    """Yields an empty temporary folder to fill; it becomes `path` at the end of the block, or is deleted if the block raises.

    Args:
      path: the target; its parents are made.
      replace: True replaces an existing folder; False allows an absent or empty one only (OSError otherwise).
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if not replace and path.exists():
            path.rmdir()
        _replace_folder(temporary, path, path.with_name(f".{path.name}.{os.getpid()}.old"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_folder(path: str | os.PathLike, fill: Callable[[Path], None]) -> Path:
    """Makes or replaces a folder atomically: `fill(temporary_folder)` writes its content; returns the absolute path."""
    with atomic_folder(path) as temporary:
        fill(temporary)
    return Path(path).absolute()


def _replace_folder(new: Path, target: Path, old: Path) -> None:
    """Renames `new` to `target`; an existing target is renamed to `old` first and deleted once the new one is in place."""
    remove_folder(old)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    with contextlib.suppress(OSError):
        remove_folder(old)


def remove_folder(path: Path) -> None:
    """Deletes a file or a folder; it may be absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# -------- Resumable work folders: steps with keys, a lock, and one rename that publishes the result

_STEPS, _LOCK = "steps.json", ".lock"


def settings_fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: str | os.PathLike) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Workspace:
    """The work folder `<out>.partial` of a result that is made in resumable steps.

    Each step has a key, a hash of everything it depends on. A step counts as done if it was finished under the same key. Before a step
    starts, files left by another key are deleted; files left by the same key (an interrupted run) stay, for the step to resume from.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other runs out of this folder during the block (on systems with `fcntl` file locks).

        Raises:
          InputError: another run holds the lock.
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
                raise InputError(f"Another run is making {self.out}: wait for it to end, or stop it.") from error
            yield

    def path(self, name: str) -> Path:
        """Path of a file or folder in the work folder."""
        return self.folder / name

    def _steps(self) -> dict[str, dict[str, str]]:
        try:
            return json.loads(self.path(_STEPS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def done(self, step: str, key: str) -> bool:
        """Whether the step was finished under this key."""
        return self._steps().get(step, {}).get("finished") == key

    @contextlib.contextmanager
    def step(self, step: str, key: str, files: list[str]) -> Iterator[None]:
        """Runs the block as a step that writes `files`, and records it as finished if the block does not raise."""
        steps = self._steps()
        if steps.get(step, {}).get("started") != key:
            for name in files:
                remove_folder(self.path(name))
        write_json(self.path(_STEPS), {**steps, step: {"started": key}})
        yield
        write_json(self.path(_STEPS), {**self._steps(), step: {"started": key, "finished": key}})

    def publish(self, scratch: list[str]) -> Path:
        """Deletes the scratch files and renames the work folder to `out`, replacing an earlier result; returns `out`."""
        for name in [*scratch, _STEPS, _LOCK]:
            remove_folder(self.path(name))
        _replace_folder(self.folder, self.out, self.out.with_name(self.out.name + ".old"))
        return self.out


# -------- Disk errors: full or read-only disks, reported in one sentence before or after the fact

SPARE = 64 << 20
"""Bytes that must stay free in addition to what is about to be written: logs, curves, the file system's own tables."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_RESUME = "free some space and run the same command again; it resumes from what is finished."


def require_space(folder: str | os.PathLike, wanted: int, what: str) -> None:
    """Checks that `wanted` bytes and `SPARE` fit on the disk of `folder` (which exists).

    Raises:
      InputError: they don't; `what` names the thing to be written.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE:
        raise InputError(f"The disk of {folder} has {_megabytes(free)} free and {what} needs {_megabytes(wanted + SPARE)}: {_RESUME}")


def require_writable(folder: str | os.PathLike) -> None:
    """Makes `folder` if it is absent, and checks that files can be created in it.

    Raises:
      InputError: they can't.
    """
    with disk_errors_as_input_errors(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".writable-"):
            pass


@contextlib.contextmanager
def disk_errors_as_input_errors(folder: str | os.PathLike) -> Iterator[None]:
    """Turns errors of a full or read-only disk, whichever library raised them, into an InputError about `folder`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # tensorstore reports the system's error as text inside a ValueError or an ExceptionGroup's first member.
        text = " ".join(str(part) for part in (error, *getattr(error, "exceptions", ())))
        number = error.errno if isinstance(error, OSError) else None
        if number in _FULL or os.strerror(errno.ENOSPC) in text or "RESOURCE_EXHAUSTED" in text:
            raise _disk_full(folder) from error
        if number in _READ_ONLY or os.strerror(errno.EROFS) in text:
            reason = os.strerror(number) if number else "read-only file system"
            raise InputError(f"{folder} can't be written to ({reason}): name another --workdir.") from error
        raise


@contextlib.contextmanager
def disk_full_as_input_error(folder: str | os.PathLike) -> Iterator[None]:
    """Turns an OSError of a full disk (or quota) into an InputError about `folder`; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _disk_full(folder) from error


def _disk_full(folder: str | os.PathLike) -> InputError:
    return InputError(f"The disk of {folder} is full: {_RESUME}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


# -------- Manifests: sizes and checksums of a complete folder's files, against which later damage is detected

MANIFEST = "manifest.json"
IGNORED = frozenset({MANIFEST, "commit_success.txt"})
"""File names that are no content: the manifest itself, and orbax's note of where it wrote."""
_CHUNK = 1 << 20
_SYNCS = os.name == "posix"
"""Windows can sync neither folders nor files that are open for reading."""


def write_manifest(folder: Path) -> None:
    """Writes `folder/manifest.json` over all files below `folder`, after each of them has been flushed to the disk (fsync)."""
    content = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in IGNORED:
            content[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "crc32": _checksum(path, sync=True)}
    write_json(folder / MANIFEST, {"files": content})
    for path in (folder / MANIFEST, folder) if _SYNCS else ():
        _sync(path)


def manifest_damage(folder: Path) -> str | None:
    """How `folder` differs from its manifest, as half a sentence; None if it does not, or has no manifest (older versions wrote none)."""
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
