"""Fault injection, as SQLite does it: the n-th operation on files below some folders fails, for every n, and what is left is looked at.

`Faults` makes one operation fail. A `Scenario` is one command at a tiny size, and what its files must be. The tests run the renames, the
syncs and a tenth of the rest; scripts/bench/faults.py runs all of them.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ERRORS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO)
RENAMES = ("replace", "rename", "fsync")
"""The operations at which a file becomes whole: each of them fails with every error."""

TEMPORARY = re.compile(r"\..*|.*\.(partial|tmp|old|dropped|muxed)", re.S)
"""Names that are nobody's result."""


class Faults:
    """Context manager: counts open, write, fsync, replace, rename, unlink, mkdir and rmdir below folders, and lets one of them fail.

    Libraries that write through C (tensorstore, ffmpeg) are seen where they go through Python only: folders, renames, notes.

    Args:
      folders: the tested ones; operations elsewhere are not counted.
      fail_at: number of the operation that fails, from 0; None lets all pass.
      error: its error number.

    Attributes:
      seen: kind of every operation, in order.
    """

    def __init__(self, folders: Sequence[Path], fail_at: int | None = None, error: int = errno.EIO) -> None:
        self._folders = [os.path.realpath(folder) for folder in folders]
        self._fail_at, self._error = fail_at, error
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self.seen: list[str] = []

    def __enter__(self) -> Faults:
        real_open = io.open

        def open_(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            watched = not isinstance(file, int) and self._is_watched(file)
            if watched:
                self._operation("open", file)
            stream = real_open(file, mode, *args, **kwargs)
            return _Stream(stream, lambda: self._operation("write", file)) if watched and set(mode) & set("wax+") else stream

        self._patch(io, "open", open_)
        self._patch(builtins, "open", open_)
        for name in ("open", "mkdir", "rmdir", "unlink", "remove", "replace", "rename"):
            self._patch(os, name, self._watching(name.replace("remove", "unlink"), getattr(os, name)))
        real_fsync = os.fsync

        def fsync(descriptor: int) -> None:
            if self._is_watched(os.readlink(f"/proc/self/fd/{descriptor}")):
                self._operation("fsync", None)
            real_fsync(descriptor)

        self._patch(os, "fsync", fsync)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _patch(self, module: Any, name: str, value: Any) -> None:
        self._stack.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, value)

    def _watching(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(path: Any, *args: Any, **kwargs: Any) -> Any:
            folder = kwargs.get("dir_fd")
            if self._is_watched(path, folder):
                self._operation(kind, path)
            return real(path, *args, **kwargs)

        return operation

    def _is_watched(self, path: Any, folder: int | None = None) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        text = os.fsdecode(path)
        if folder is not None:
            text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
        text = os.path.abspath(text)
        return any(text == each or text.startswith(each + os.sep) for each in self._folders)

    def _operation(self, kind: str, path: Any) -> None:
        with self._lock:
            number = len(self.seen)
            self.seen.append(kind)
        if number == self._fail_at:
            raise OSError(self._error, os.strerror(self._error), None if path is None else os.fsdecode(path))


class _Stream:
    """A file whose writes are counted; one that fails has written half of its data, as on a full disk."""

    def __init__(self, stream: Any, before: Callable[[], None]) -> None:
        self._stream, self._before = stream, before

    def write(self, data: Any) -> int:
        try:
            self._before()
        except OSError:
            with contextlib.suppress(Exception):
                self._stream.write(data[: len(data) // 2])
            raise
        return self._stream.write(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> _Stream:
        self._stream.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._stream.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


# -------- Scenarios


@dataclass
class Scenario:
    """One command at a tiny size.

    Attributes:
      name: of the verb.
      template: folder that every trial begins with a copy of, at `place`.
      place: where it runs: always the same folder, so that programs compiled once and paths in files stay.
      arguments: of the command line.
      results: final names below `place` that the command makes.
      patches: (object, name, value): stand-ins for what a trial needs not do again.
      check: raises AssertionError if a result that is there is not whole; None compares it with the reference.
    """

    name: str
    template: Path
    place: Path
    arguments: list[str]
    results: list[str]
    patches: list[tuple[Any, str, Any]] = field(default_factory=list)
    check: Callable[[Path], None] | None = None
    reference: dict[str, Any] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)

    def record(self) -> None:
        """Runs the command twice without faults: the second time, with all programs compiled, counts the operations."""
        for _ in range(2):
            code, messages, self.operations = self._run(None)
            assert code == 0, messages
        self.reference = {name: content(self.place / name) for name in self.results}
        assert not leftovers(self.place), leftovers(self.place)

    def faults(self, share: float = 1.0, seed: int = 0) -> list[tuple[int, int]]:
        """(operation, error): every rename and sync with every error, and a seeded share of the others with one error each."""
        draw = random.Random(f"{seed} {self.name}")
        found = []
        for number, kind in enumerate(self.operations):
            if kind in RENAMES:
                chosen = ERRORS if share >= 1.0 else (ERRORS[number % len(ERRORS)],)
                found += [(number, error) for error in chosen]
            elif draw.random() < share:
                found.append((number, ERRORS[draw.randrange(len(ERRORS))]))
        return found

    def trial(self, number: int, error: int) -> str | None:
        """Lets one operation fail, looks at what is left, and runs again; returns what is wrong, or None."""
        kind = self.operations[number]
        where = f"{self.name}: {kind} {number} fails with {errno.errorcode[error]}"
        code, messages, _ = self._run(number, error)
        sentences = [line for line in messages.splitlines() if line.startswith(f"geneface {self.name}: ")]
        if code not in (0, 2):
            return f"{where}: exit code {code}\n{messages}"
        if code == 2 and (len(sentences) != 1 or not sentences[0].endswith(".")):
            return f"{where}: {len(sentences)} sentences\n{messages}"
        for name in self.results:
            if code == 0 and not (self.place / name).exists():
                return f"{where}: exit code 0 without {name}"
            if (self.place / name).exists() and (broken := self._broken(name)):
                return f"{where}: {name} is not whole: {broken}"
        if code == 2:
            code, messages, _ = self._run(None, fresh=False)
            if code != 0:
                return f"{where}: the next run ends with exit code {code}\n{messages}"
            for name in self.results:
                if broken := self._broken(name):
                    return f"{where}: {name} of the next run is not whole: {broken}"
            if found := leftovers(self.place):
                return f"{where}: the next run leaves {found}"
        return None

    def _broken(self, name: str) -> str:
        try:
            if self.check is not None:
                self.check(self.place / name)
            elif (found := content(self.place / name)) != self.reference[name]:
                return differing(found, self.reference[name])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _run(self, fail_at: int | None, error: int = errno.EIO, *, fresh: bool = True) -> tuple[int, str, list[str]]:
        """(exit code or -1 after an exception, what was printed on stderr, operations)."""
        from geneface_jax.cli.main import main

        if fresh:
            shutil.rmtree(self.place, ignore_errors=True)
            shutil.copytree(self.template, self.place)
        messages = io.StringIO()
        with contextlib.ExitStack() as stack:
            for holder, name, value in self.patches:
                stack.callback(setattr, holder, name, getattr(holder, name))
                setattr(holder, name, value)
            stack.enter_context(contextlib.redirect_stderr(messages))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            faults = stack.enter_context(Faults([self.place], fail_at, error))
            try:
                code = main([self.name, *self.arguments])
            except BaseException as raised:
                import traceback

                messages.write("".join(traceback.format_exception(raised)[-12:]))
                code = -1
        return code, messages.getvalue(), faults.seen


def content(path: Path) -> Any:
    """What a file or folder holds: bytes; of JSON only that it is readable (it names times); of a folder its names too."""
    if path.is_dir():
        return {each.name: content(each) for each in sorted(path.iterdir())}
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
        return "json"
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return {name: archive[name].tobytes() for name in archive.files}
    return "html" if path.suffix == ".html" else path.read_bytes()


def differing(found: Any, wanted: Any) -> str:
    """Where two contents differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        return f"{names[0]}: {differing(found.get(names[0]), wanted.get(names[0]))}"
    return f"{type(found).__name__} {len(found) if found is not None else ''} differs"


def leftovers(folder: Path) -> list[str]:
    """Names below a folder that are nobody's result."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name))
