"""The studio's private folder: uploads, results and Gradio's own files, readable by this user alone and gone when the studio ends.

A studio that was killed can't tidy up, so the next one does: every folder is held by a lock, and one that nobody holds is swept away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO

PREFIX = "geneface-studio-"
LOCK = "lock"


class Workspace:
    """Use as a context manager.

    Args:
      parent: where the folder is made; the system's temporary folder when None.

    Attributes:
      folder: the private folder, mode 0700.
      uploads: what passed the checks. results: what was made. cache: Gradio's.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None):
        self._parent = Path(parent or tempfile.gettempdir())
        self._lock: IO[str] | None = None
        self.folder = self._parent

    def __enter__(self) -> Workspace:
        sweep(self._parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))  # made with mode 0700
        self._lock = (self.folder / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for name in ("uploads", "results", "cache"):
            (self.folder / name).mkdir(mode=0o700)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    @property
    def uploads(self) -> Path:
        return self.folder / "uploads"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def new_file(self, kind: str, suffix: str) -> Path:
        """A name nobody can guess, in `uploads` or `results`; the file is not made."""
        return self.folder / kind / f"{uuid.uuid4().hex}{suffix}"

    def size(self) -> int:
        """Bytes of everything in the folder."""
        total = 0
        for root, _, names in os.walk(self.folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(root, name)).st_size
                except FileNotFoundError:
                    continue  # deleted while counting
        return total

    def expire(self, before: float) -> None:
        """Deletes uploads and results last changed before a moment (seconds since 1970)."""
        for folder in (self.uploads, self.results):
            for path in folder.iterdir():
                if path.lstat().st_mtime < before:
                    path.unlink(missing_ok=True)


def sweep(parent: Path) -> None:
    """Removes the private folders of this user's studios that are not running any more."""
    for folder in parent.glob(f"{PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        try:
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (FileNotFoundError, BlockingIOError):
            continue  # just being made, or in use
