"""Runs an op's `check` over the recorded files in ../shared, and reports which arrays of a file it read."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np

from tests.parity.kernels.comparison import Comparison, GoldenFile
from tests.parity.packed import read_npz


class ReadLog(dict[str, np.ndarray]):
    """Arrays of one file that record which of them were read."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__(arrays)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> np.ndarray:
        self.read.add(key)
        return super().__getitem__(key)


def golden_module(op: str) -> ModuleType:
    return importlib.import_module(f"tests.parity.kernels.golden_{op}")


@functools.cache
def run(op: str, path: Path) -> tuple[tuple[Comparison, ...], frozenset[str]]:
    """The op's comparisons with one file, and the keys of the arrays it read."""
    file = GoldenFile.read(path)
    log = ReadLog(file.arrays)
    checks = tuple(golden_module(op).check(GoldenFile(file.name, file.meta, log), "xla"))
    return checks, frozenset(log.read)


def assert_equals_recorded(shared: Path, op: str) -> None:
    """Checks every file with one of the op's prefixes, and that there is one for each prefix."""
    prefixes, seen, misses = golden_module(op).PREFIXES, [], []
    for path in sorted((shared / "parity" / "kernels").glob("*.npz")):
        if path.name.startswith(prefixes):
            checks, _ = run(op, path)
            assert checks, path.name
            misses += [f"{path.name}: {check.key} is {check.worst:.3g} tolerances off" for check in checks if not check.passed]
            seen.append(path.name)
    assert not misses, "\n".join(misses)
    assert all(any(name.startswith(prefix) for name in seen) for prefix in prefixes), f"{op}: only {seen} are there"


def unread_arrays(path: Path, ops: list[str]) -> set[str]:
    """Keys of a file that none of its readers read."""
    readers = [op for op in ops if path.name.startswith(golden_module(op).PREFIXES)]
    return set(read_npz(path)) - {"meta"} - {key for op in readers for key in run(op, path)[1]}
