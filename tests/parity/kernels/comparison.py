"""Comparison of an op with results recorded from the original kernels.

Each `golden_<op>` module has `PREFIXES`, the prefixes of the file names it reads, and `check(file, implementation)`, which yields one
`Comparison` per recorded array. The tests and scripts/check_parity.py run the same functions.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.packed import read_npz


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One compared array: `worst` is the largest error in units of its tolerance, so 1 and below passes (exact arrays: 0 or inf)."""

    key: str
    worst: float

    @property
    def passed(self) -> bool:
        return self.worst <= 1.0


@dataclasses.dataclass(frozen=True)
class GoldenFile:
    """A file of recorded inputs and results.

    Attributes:
      name: file name without suffix.
      meta: all scalar arguments.
      arrays: key -> array, `meta` left out.
    """

    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    @classmethod
    def read(cls, path: str | Path) -> GoldenFile:
        """Reads one `.npz` file (no pickles)."""
        arrays = read_npz(path)
        meta = json.loads(str(arrays.pop("meta", "{}")))
        return cls(Path(path).stem, meta, arrays)


def compare(key: str, found: Any, expected: Any, *, atol: float = 0.0, rtol: float = 0.0, where: Any = None) -> Comparison:
    """Compares two arrays.

    Args:
      key: name for the table.
      found, expected: arrays of one shape.
      atol, rtol: tolerance `atol + rtol * |expected|`, as in numpy; both 0 asks for equality.
      where: mask over the leading axes of the elements to compare; None for all.

    Returns:
      The largest error over tolerance; infinite for a wrong shape, or NaN on one side only.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return Comparison(f"{key} (shape {found.shape}, recorded {expected.shape})", float("inf"))
    if where is not None:
        mask = np.asarray(where).astype(bool)
        found, expected = found[mask], expected[mask]
    if found.size == 0:
        return Comparison(key, 0.0)
    same = (found == expected) | (_nan(found) & _nan(expected))
    if atol == 0.0 and rtol == 0.0:
        return Comparison(key, 0.0 if same.all() else float("inf"))
    with np.errstate(invalid="ignore", over="ignore"):
        wide, target = found.astype(np.float64), expected.astype(np.float64)
        ratio = np.where(same, 0.0, np.abs(wide - target) / (atol + rtol * np.abs(target)))
    return Comparison(key, float(np.where(np.isnan(ratio), np.inf, ratio).max()))


def _nan(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) if np.issubdtype(values.dtype, np.floating) else np.zeros(values.shape, bool)
