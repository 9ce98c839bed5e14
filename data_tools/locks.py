"""One writer a folder: a lock file that belongs to a run, and who made a temporary file.

The lock needs nothing of the file system but that a file is created once (`O_EXCL`) and that its time can be set, which network disks and
Windows have too. It names host, process and run. A process of the same machine is asked for by its number; one of another machine is judged
by the lock's time alone, which its owner renews every few seconds.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from data_tools.errors import InputError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
BEAT_SECONDS = 10.0
"""Time between two signs of life of a lock's owner."""

STALE_SECONDS = 120.0
"""A lock of another machine without a sign of life for this long is given up; more than a network disk hides changes (60 s)."""

# -------- Who: this process, and whether another one still lives


@functools.cache
def machine() -> str:
    """6 hex digits of what process numbers belong to: the host, and on Linux the container on it."""
    return _digest(socket.gethostname(), _linux("/proc/self/ns/pid"))


@functools.cache
def boot() -> str:
    """6 hex digits that change when the machine is started again; those of nothing where the system doesn't say."""
    return _digest(_linux("/proc/sys/kernel/random/boot_id"))


def process_start(pid: int) -> str | None:
    """When a process of this machine began, as text to compare, which tells it from a later one of the same number.

    Returns:
      None if there is no such process (or only its exit code is left); "" if the system doesn't say.
    """
    if _linux("/proc/self/stat"):
        fields = _linux(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass  # another user's
    return ""  # Windows: `os.kill` would end the process


def _linux(path: str) -> str:
    """Text of a file, or target of a link, below /proc; "" where there is none."""
    try:
        return os.readlink(path) if os.path.islink(path) else Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:6]


# -------- The lock


@dataclasses.dataclass(frozen=True)
class Holder:
    """Content of a lock file: who holds it.

    Attributes:
      run: 16 hex digits, another number for every run.
      doing: what the run does, for sentences: "geneface train".
      host, pid: of the process that holds it.
      machine, boot, start: see the functions of this module.
      since: local time at which it was taken.
    """

    run: str
    doing: str
    host: str
    pid: int
    machine: str
    boot: str
    start: str
    since: str

    @classmethod
    def this_process(cls, doing: str) -> "Holder":
        """A new run of this process."""
        now = datetime.datetime.now().isoformat(" ", "seconds")
        start = process_start(os.getpid()) or ""
        return cls(secrets.token_hex(8), doing, socket.gethostname(), os.getpid(), machine(), boot(), start, now)

    @classmethod
    def read(cls, path: Path) -> "tuple[Holder | None, float]":
        """(who holds a lock file, its time in seconds since 1970); the holder is None while it is being written, or if it is damaged.

        Raises:
          FileNotFoundError: there is no lock file.
        """
        with open(path, encoding="utf-8", errors="replace") as stream:  # opened, so that a network disk asks its server
            text, changed = stream.read(1 << 16), os.fstat(stream.fileno()).st_mtime
        try:
            found = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None, changed
        return (found if isinstance(found.pid, int) and isinstance(found.run, str) else None), changed

    def __str__(self) -> str:
        return f"{self.doing}, process {self.pid} on {self.host}, since {self.since}"


class Lock:
    """A lock that this process holds.

    Attributes:
      path: the lock file.
      holder: this run.
      folder: what it guards, for sentences.
    """

    def __init__(self, path: Path, folder: Path, doing: str) -> None:
        self.path, self.folder, self.holder = path, folder, Holder.this_process(doing)
        self._lost_to = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lock", daemon=True)

    def require(self) -> None:
        """Checks that the lock was not taken over, as happens after a machine slept for minutes.

        Raises:
          InputError: it was.
        """
        if self._lost_to:
            raise InputError(f"{self.folder} was taken over by another run ({self._lost_to}): this one ends, so that they don't mix.")

    def take(self) -> None:
        """Takes the lock; see `hold`."""
        for _ in range(3):
            if self._create():
                self._thread.start()
                return
            try:
                holder, changed = Holder.read(self.path)
            except FileNotFoundError:
                continue
            quiet = self._now() - changed
            if _holds(holder, quiet):
                who = str(holder) if holder else "its lock file doesn't say who"
                raise InputError(
                    f"Another run works in {self.folder} ({who}): wait for it to end, or stop it; if it no longer exists, its lock "
                    f"{self.path} is given up {STALE_SECONDS:.0f} s after its last sign of life, {max(quiet, 0):.0f} s ago."
                )
            self._remove_stale(holder)
        raise InputError(f"Several runs start in {self.folder} at once: start one of them again.")

    def release(self) -> None:
        """Deletes the lock, unless another run has taken it over."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_ours():
                self.path.unlink()

    def _create(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with open(descriptor, "w", encoding="utf-8") as stream:
                json.dump(dataclasses.asdict(self.holder), stream, indent=2)
        except BaseException:
            with contextlib.suppress(OSError):
                self.path.unlink()
            raise
        return True

    def _now(self) -> float:
        """The time by the clock of the disk, which may be another than this machine's."""
        probe = self.path.with_name(f"{self.path.name}.{self.holder.run}")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _remove_stale(self, holder: Holder | None) -> None:
        """Deletes a lock whose owner is gone. Two runs may try: it is renamed first, and put back if that got the other's new one."""
        aside = self.path.with_name(f"{self.path.name}.{self.holder.run}")
        try:
            os.rename(self.path, aside)
        except (FileNotFoundError, PermissionError):  # another run was faster; on Windows, it is reading the file
            return
        found, _ = Holder.read(aside)
        if found != holder:
            os.rename(aside, self.path)
            return
        aside.unlink()
        logger.warning("%s was held by a run that ended without saying so (%s): this run takes over", self.folder, holder or "unknown")

    def _is_ours(self) -> bool:
        holder, _ = Holder.read(self.path)
        return holder is not None and holder.run == self.holder.run

    def _live(self) -> None:
        """Renews the time of the lock until it is released."""
        while not self._ended.wait(BEAT_SECONDS):
            try:
                if self._is_ours():
                    os.utime(self.path)
                elif not self._lost_to:
                    self._lost_to = str(Holder.read(self.path)[0] or "unknown")
                    logger.error("%s was taken over by another run: %s", self.folder, self._lost_to)
            except FileNotFoundError:  # deleted by hand
                with contextlib.suppress(OSError):
                    self._create()
            except OSError:
                continue  # the network or the disk is away for a moment


def _holds(holder: Holder | None, quiet: float) -> bool:
    """Whether a lock without a sign of life for `quiet` seconds is held."""
    if holder is not None and holder.machine == machine():
        if holder.boot != boot():
            return False
        start = process_start(holder.pid)
        if start is None or (start and holder.start and start != holder.start):
            return False
        if start and start == holder.start:
            return True  # that very process; it may be stopped (Ctrl-Z) and silent for that reason
    return quiet < STALE_SECONDS


_HELD: dict[tuple[str, int], Lock] = {}
"""(lock file, thread) -> lock: what a thread holds, it may hold again (`fit` holds the folder in which `prepare` works)."""


@contextlib.contextmanager
def hold(folder: str | os.PathLike[str], doing: str, *, beside: bool = False) -> Iterator[Lock]:
    """Keeps other runs out of a folder during the block; a run that was killed is taken over, which is logged.

    Args:
      folder: what is written. Without `beside` it is made, and deleted at the end if it is new and still empty.
      doing: what this run does, for the sentence that others get.
      beside: put the lock file next to the folder, for one that is replaced as a whole.

    Raises:
      InputError: another run holds it; says which.
    """
    folder = Path(folder).absolute()
    path = folder.with_name(f".{_digest(folder.name)}{LOCK_FILE}" if len(folder.name) > 100 else f".{folder.name}{LOCK_FILE}")
    path = path if beside else folder / LOCK_FILE
    key = os.path.realpath(path), threading.get_ident()
    if key in _HELD:
        yield _HELD[key]
        return
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path, folder, doing)
    lock.take()
    _HELD[key] = lock
    try:
        yield lock
    finally:
        del _HELD[key]
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def join(folder: str | os.PathLike[str], run: str, seconds: float = 60.0) -> None:
    """Joins a run whose first process holds the folder: waits until its lock is seen here, for at most `seconds`.

    Raises:
      InputError: it is not, so this process looks at another folder.
    """
    path, until = Path(folder) / LOCK_FILE, time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if (holder := Holder.read(path)[0]) is not None and holder.run == run:
                return
        if time.monotonic() > until:
            raise InputError(
                f"Process 0 of this run holds {folder}, but not the {folder} of this process: use a disk that all of them share."
            )
        time.sleep(min(1.0, seconds))
