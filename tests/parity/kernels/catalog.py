"""Ops that are compared with recorded results of the original kernels, and which of them reads which file."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from geneface_kernels import backend

from tests.parity.kernels.comparison import Comparison, GoldenFile

PALLAS_OPS = ("grid_encoding", "ray_marching", "compositing")
"""Ops with a Pallas version: their files are checked once per implementation."""
XLA_OPS = ("ray_box", "spherical_harmonics", "frequency_encoding", "bit_grid", "occupancy_grid", "frame_rendering")
"""Ops that only have an XLA implementation."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the parity table: an op, a file, an implementation, and its comparisons."""

    op: str
    file: str
    implementation: str
    checks: tuple[Comparison, ...]

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest error."""
        return max(self.checks, key=lambda check: check.worst)

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


def golden_modules() -> dict[str, ModuleType]:
    """Op -> its `golden_<op>` module."""
    return {op: importlib.import_module(f"tests.parity.kernels.golden_{op}") for op in (*PALLAS_OPS, *XLA_OPS)}


def check_folder(folder: Path, implementations: list[str] | None = None) -> Iterator[Row]:
    """Runs every file of a folder through every op that reads it.

    Args:
      folder: holds `<prefix>*.npz`.
      implementations: the ones to run; None for all that can run on this machine.

    Yields:
      Rows as they are computed. A file that no op reads gives a row without checks, which counts as a miss.
    """
    modules = golden_modules()
    implementations = implementations or backend.runnable()
    for path in sorted(folder.glob("*.npz")):
        readers = [op for op, module in modules.items() if path.name.startswith(module.PREFIXES)]
        if not readers:
            yield Row("-", path.name, "-", ())
            continue
        file = GoldenFile.read(path)
        for op in readers:
            chosen = implementations if op in PALLAS_OPS else [name for name in implementations if name == "xla"]
            for implementation in chosen:
                yield Row(op, path.name, implementation, tuple(modules[op].check(file, implementation)))
