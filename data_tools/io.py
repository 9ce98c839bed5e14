"""Files and folders: atomic writes, JSON and npz, checksummed manifests, resumable work folders, outputs that can't be written."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools import locks, records
from data_tools.errors import InputError

# Here too, for modules that write files anyway.
hold = locks.hold
read_json, read_npz = records.read_json, records.read_npz

# -------- Atomic writes: everything is written under a temporary name next to the target and renamed when it is complete
#
# A temporary name says which process of which machine made it, so that the next run with the same target deletes what a killed one left.

_NUMBERS = itertools.count()
_OPEN: set[Path] = set()
"""Temporary files and folders that this process is filling."""

_TEMPORARY = re.compile(
    r"\.(?P<stem>.+)\.(?P<machine>[0-9a-f]{6})-(?P<boot>[0-9a-f]{6})-(?P<pid>[0-9]+)-[0-9]+\.(?P<kind>partial|old).*", re.S
)
_LONGEST_STEM = 120
"""Bytes of a target's name in its temporary name: file systems allow 255, and the target's own may have all of them."""


def _stem(path: Path) -> str:
    name = path.name
    return name if len(os.fsencode(name)) <= _LONGEST_STEM else hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def _temporary_name(path: Path, kind: str) -> Path:
    owner = f"{locks.machine()}-{locks.boot()}-{os.getpid()}-{next(_NUMBERS)}"
    return path.with_name(f".{_stem(path)}.{owner}.{kind}")


def clear_leftovers(path: str | os.PathLike) -> None:
    """Deletes what killed runs left of `path`: temporary files and folders of processes of this machine that have ended.

    A folder that such a run had already put aside, in order to replace it, gets its name back if there is no other of that name.
    """
    path = Path(path).absolute()
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match["stem"] == _stem(path) and _is_abandoned(Path(entry.path), match):
                with contextlib.suppress(OSError):
                    if match["kind"] == "old" and not path.exists():
                        os.replace(entry.path, path)
                    remove_folder(Path(entry.path))


def _is_abandoned(path: Path, match: re.Match[str]) -> bool:
    if match["machine"] != locks.machine():
        return False
    if match["boot"] == locks.boot() and int(match["pid"]) == os.getpid():
        # The names of helpers, such as `.partial.wav`, begin with that of the file they belong to.
        return not any(path.name.startswith(other.name) and path.parent == other.parent for other in _OPEN)
    return match["boot"] != locks.boot() or locks.process_start(int(match["pid"])) is None


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, suffix: str = "", *, per_process: bool = True) -> Iterator[Path]:
    """Yields a temporary file name next to `path`; the file replaces `path` at the end of the block, or is deleted if the block raises.

    Args:
      path: the target; its folder is made.
      suffix: ending of the temporary name (`numpy.savez` insists on ".npz").
      per_process: True makes a temporary name of this process, so that several processes may write one target, and deletes what killed
        runs left. False uses a fixed name, which the next attempt overwrites (work folders, which are published with all they hold, and
        folders of thousands of files, where looking for leftovers is slow).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if per_process:
        clear_leftovers(path)
    temporary = _temporary_name(path, f"partial{suffix}") if per_process else path.with_name(f".{_stem(path)}.tmp{suffix}")
    _OPEN.add(temporary.absolute())
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _discard(temporary)


def _discard(temporary: Path) -> None:
    """Deletes a temporary file or folder if it is still there; a failure leaves it to the next run and hides no other error."""
    _OPEN.discard(temporary.absolute())
    with contextlib.suppress(OSError):
        remove_folder(temporary)


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


def write_json(path: str | os.PathLike, value: Any, *, checksum: bool = False) -> Path:
    """Writes `value` as indented JSON, atomically; returns the path. With `checksum`, `read_json` finds later damage in it (a record)."""
    return write_text(path, json.dumps(records.sealed(value) if checksum else value, indent=2, ensure_ascii=False) + "\n")


def write_npz(path: str | os.PathLike, **arrays: np.ndarray) -> Path:
    """Writes a compressed npz file atomically; returns the path."""
    values: dict[str, Any] = dict(arrays)
    with atomic_path(path, ".npz", per_process=False) as temporary:
        np.savez_compressed(temporary, **values)
    return Path(path)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, *, replace: bool = True, lock: bool = True) -> Iterator[Path]:
    """Yields an empty temporary folder to fill; it becomes `path` at the end of the block, or is deleted if the block raises.

    Args:
      path: the target; its parents are made.
      replace: True replaces an existing folder; False allows an absent or empty one only (OSError otherwise).
      lock: keep other runs from making the same folder meanwhile; False where the caller holds a lock around it.

    Raises:
      InputError: another run is making the same folder.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.hold(path, "making this folder", beside=True) if lock else contextlib.nullcontext():
        clear_leftovers(path)
        temporary = _temporary_name(path, "partial")
        _OPEN.add(temporary)
        try:
            temporary.mkdir()
            yield temporary
            for entry in temporary.rglob(".*"):
                if _TEMPORARY.fullmatch(entry.name):  # of a helper file that could not be deleted when it was done with
                    remove_folder(entry)
            if not replace and path.exists():
                path.rmdir()
            _replace_folder(temporary, path, _temporary_name(path, "old"))
        finally:
            _discard(temporary)


def write_folder(path: str | os.PathLike, fill: Callable[[Path], None], *, lock: bool = True) -> Path:
    """Makes or replaces a folder atomically: `fill(temporary_folder)` writes its content; returns the absolute path. As `atomic_folder`."""
    with atomic_folder(path, lock=lock) as temporary:
        fill(temporary)
    return Path(path).absolute()


def _replace_folder(new: Path, target: Path, old: Path) -> None:
    """Renames `new` to `target`; an existing target is renamed to `old` first and deleted once the new one is in place."""
    _OPEN.add(old)
    try:
        if not target.exists():
            os.replace(new, target)
            return
        os.replace(target, old)
        try:
            os.replace(new, target)
        except BaseException:
            os.replace(old, target)
            raise
        with contextlib.suppress(OSError):
            remove_folder(old)
    finally:
        _OPEN.discard(old)


def remove_folder(path: Path) -> None:
    """Deletes a file or a folder; it may be absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# -------- Resumable work folders: steps with keys, a lock, and one rename that publishes the result

_STEPS = "steps.json"


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
        """Keeps other runs out of the folder during the block.

        Raises:
          InputError: another run holds it.
        """
        with locks.hold(self.out, "geneface prepare", beside=True):
            clear_leftovers(self.out)
            yield

    def path(self, name: str) -> Path:
        """Path of a file or folder in the work folder."""
        return self.folder / name

    def _steps(self) -> dict[str, dict[str, str]]:
        try:
            steps = read_json(self.path(_STEPS))
        except InputError:
            return {}
        # A damaged file means that every step is done again.
        return {name: step for name, step in steps.items() if isinstance(step, dict)} if isinstance(steps, dict) else {}

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
        write_json(self.path(_STEPS), {**steps, step: {"started": key}}, checksum=True)
        yield
        write_json(self.path(_STEPS), {**self._steps(), step: {"started": key, "finished": key}}, checksum=True)

    def publish(self, scratch: list[str]) -> Path:
        """Deletes the scratch files and renames the work folder to `out`, replacing an earlier result; returns `out`."""
        # The steps first: those that are listed as finished must have their files. Version 0.1.0 left a lock inside.
        for name in [_STEPS, locks.LOCK_FILE, *scratch]:
            remove_folder(self.path(name))
        _replace_folder(self.folder, self.out, _temporary_name(self.out, "old"))
        return self.out


# -------- Outputs that can't be written: found before the work where that is possible, else reported in one sentence

SPARE = 64 << 20
"""Bytes that must stay free in addition to what is about to be written: logs, curves, the file system's own tables."""

_RESUME = "free some space and run the same command again; it resumes from what is finished."
_DISK_ERRORS = {
    errno.ENOSPC: f"The disk of {{where}} is full: {_RESUME}",
    errno.EDQUOT: f"The quota of the disk of {{where}} is used up: {_RESUME}",
    errno.EROFS: "{where} can't be written to ({reason}): name another {option}.",
    errno.EACCES: "{where} can't be written to or read ({reason}): change its permissions, or name another {option}.",
    errno.EPERM: "{where} can't be written to or read ({reason}): change its permissions, or name another {option}.",
    errno.ENAMETOOLONG: "{where} is too long a name for this file system: give a shorter one.",
    errno.EISDIR: "{where} is a folder where a file is expected: name another {option}.",
    errno.ENOTDIR: "{where} needs a folder where there is a file: name another {option}.",
    errno.EEXIST: "{where} exists already and is in the way: remove it, or name another {option}.",
    errno.ENOTEMPTY: "{where} exists already and is in the way: remove it, or name another {option}.",
    errno.EBUSY: "{where} is in use ({reason}), as a mounted disk is: name a folder inside of it with another {option}.",
    errno.EIO: "{where} can't be written to or read ({reason}): check the disk, then run the same command again.",
    errno.ESTALE: "{where} can't be written to or read ({reason}): mount that disk again, then run the same command again.",
}
"""Error number -> sentence. These errors are about the user's disk and names; others are bugs and keep their traceback."""


def disk_error_sentence(
    error: BaseException, where: str | os.PathLike | None = None, option: str = "place", *, in_text: bool = False
) -> str | None:
    """The sentence for an error that a disk, or the name of an output, has caused; None for others.

    Args:
      error: of any library.
      where: file or folder; None takes the one in the error.
      option: what another place is named with.
      in_text: look for the system's error in the text too: tensorstore reports it inside a ValueError or an ExceptionGroup's first
        member. Only where nothing else speaks so: "RESOURCE_EXHAUSTED" of JAX is a GPU's memory.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and in_text:
        text = " ".join(str(part) for part in (error, *getattr(error, "exceptions", ())))
        number = next((number for number in _DISK_ERRORS if os.strerror(number) in text), None)
        number = errno.ENOSPC if number is None and "RESOURCE_EXHAUSTED" in text else number
    if number not in _DISK_ERRORS:
        return None
    if where is None:
        names = [name for name in (getattr(error, "filename2", None), getattr(error, "filename", None)) if isinstance(name, (str, bytes))]
        where = _target(Path(os.fsdecode(names[0]))) if names else "The output"
    return _DISK_ERRORS[number].format(where=where, reason=os.strerror(number), option=option)


def _target(path: Path) -> Path:
    """What a temporary name is for."""
    match = _TEMPORARY.fullmatch(path.name)
    return path.with_name(match["stem"]) if match else path


def require_space(folder: str | os.PathLike, wanted: int, what: str) -> None:
    """Checks that `wanted` bytes and `SPARE` fit on the disk of `folder` (which exists).

    Raises:
      InputError: they don't; `what` names the thing to be written.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE:
        raise InputError(f"The disk of {folder} has {_megabytes(free)} free and {what} needs {_megabytes(wanted + SPARE)}: {_RESUME}")


def require_writable(folder: str | os.PathLike, option: str = "--workdir") -> None:
    """Makes `folder` if it is absent, and checks that files can be created in it.

    Raises:
      InputError: they can't; `option` is what names another one.
    """
    require_output(folder, folder=True, option=option)
    with disk_errors_as_input_errors(folder, option):
        Path(folder).mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)


def require_output(path: str | os.PathLike | None, *, folder: bool = False, replaced: bool = False, option: str = "--out") -> None:
    """Checks before any work that a file, or a folder, can be written under a name; makes nothing.

    Args:
      path: the output; None (there is none) passes.
      folder: whether it will be a folder.
      replaced: whether an existing folder will be replaced as a whole, so that the folder it is in must be writable.
      option: what names it, for the sentence.

    Raises:
      InputError: the name is empty or too long, something else is in the way, or the folder it would be in can't be written to.
    """
    if path is None:
        return
    if not os.fspath(path).strip():
        raise InputError(f"The name of the output is empty: give a name with {option}.")
    path = Path(path)
    with disk_errors_as_input_errors(path, option):
        parent = path.absolute().parent
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISDIR(mode := os.stat(path).st_mode):
                parent = path if folder and not replaced else parent
                if not folder:
                    raise InputError(f"{path} is a folder where a file is to be written: give a name inside of it with {option}.")
            elif folder or not stat.S_ISREG(mode):
                kind = "a file where a folder" if stat.S_ISREG(mode) else "no ordinary file, where an output"
                raise InputError(f"{path} is {kind} is to be written: name another {option}.")
        missing = [path.name]
        while not parent.is_dir():
            if os.path.lexists(parent):
                raise InputError(f"{path} can't be written because {parent} is a file: name another {option}.")
            missing.append(parent.name)
            parent = parent.parent
        if max(len(os.fsencode(name)) for name in missing) > _longest_name(parent):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        _try_to_write(parent)


def _longest_name(folder: Path) -> int:
    """Bytes of the longest name that the disk of a folder allows."""
    return os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255


def _try_to_write(folder: str | os.PathLike) -> None:
    with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".writable-"):
        pass


@contextlib.contextmanager
def disk_errors_as_input_errors(folder: str | os.PathLike, option: str = "--workdir", *, in_text: bool = False) -> Iterator[None]:
    """Turns errors in `_DISK_ERRORS` into an InputError about `folder`; others pass. `in_text`: see `disk_error_sentence`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if (sentence := disk_error_sentence(error, folder, option, in_text=in_text)) is None:
            raise
        raise InputError(sentence) from error


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


# -------- Manifests: sizes and checksums of a complete folder's files, against which later damage is detected

MANIFEST = "manifest.json"
IGNORED = frozenset({MANIFEST, "commit_success.txt"})
"""File names that are no content: the manifest itself, and orbax's note of where it wrote."""
_CHUNK = 1 << 20
_LISTED = {"bytes": records.Field(int, low=0), "crc32": records.Field(int, low=0, high=2**32 - 1)}
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
        content = records.read_record(folder / MANIFEST, {"files": records.Field(dict, low=1)})["files"]
        for name, wanted in content.items():
            records.check_fields(wanted, name, _LISTED)
    except InputError:
        return f"its {MANIFEST} can't be read"
    for name, wanted in content.items():
        if not records.stays_inside(name):
            return f"its {MANIFEST} names {name!r}, which is not inside of the folder"
        path = folder / name
        try:
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != wanted["bytes"]:
                return f"{name} has {path.stat().st_size} bytes of {wanted['bytes']}"
            if _checksum(path) != wanted["crc32"]:
                return f"{name} doesn't hold the bytes that were written"
        except OSError as error:
            return f"{name} can't be read ({error.strerror})"
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
