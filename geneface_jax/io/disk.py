"""Disks that are full or can't be written to, told in one sentence before or after the fact."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_tools.errors import InputError

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
    with explained(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".writable-"):
            pass


@contextmanager
def explained(folder: str | os.PathLike) -> Iterator[None]:
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
