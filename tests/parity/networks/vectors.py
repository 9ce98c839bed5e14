"""A folder of recorded inputs and results of an original network, which keeps track of the keys that were read."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.errors import InputError
from geneface_jax.convert.rules import Converter, flat_leaves, match
from geneface_jax.convert.speech import Family
from geneface_jax.io import configs
from tests.parity.kernels.comparison import Comparison, compare
from tests.parity.packed import read_npz

GRADIENT_RTOL, GRADIENT_SHARE = 2e-3, 1e-3
"""Gradients: relative tolerance, and absolute tolerance as a share of the largest entry."""


class Vectors:
    """The arrays of `FOLDER/io.npz`. Half-precision ones hold exact values and are widened.

    Attributes:
      folder: the folder.
      arrays: key -> array.
      meta: settings of the original's run (`meta_json`).
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.arrays = read_arrays(self.folder / "io.npz")
        self.meta: dict[str, Any] = json.loads(str(self.arrays.pop("meta_json", "{}")))
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> np.ndarray:
        self._read.add(key)
        return self.arrays[key]

    def has(self, *keys: str) -> bool:
        """Whether all keys were recorded; does not count as reading them."""
        return all(key in self.arrays for key in keys)

    def find(self, pattern: str) -> list[re.Match[str]]:
        """Full matches of `pattern` among the keys, in the file's order; does not count as reading them."""
        return [found for key in self.arrays if (found := re.fullmatch(pattern, key))]

    def weights(self, file: str = "weights", sibling: str | None = None) -> dict[str, np.ndarray] | None:
        """A state_dict of this folder, or of a sibling folder; None if it does not exist."""
        path = (self.folder.parent / sibling if sibling else self.folder) / f"{file}.npz"
        return read_arrays(path) if path.is_file() else None

    def unread(self) -> list[str]:
        """Keys that were not read."""
        return [key for key in self.arrays if key not in self._read]

    def compare(self, found: Mapping[str, Any], atol: float, rtol: float = 0.0, where: Any = None) -> Iterator[Comparison]:
        """Compares our results with the recorded ones of the same key; skips keys that were not recorded."""
        for key, value in found.items():
            if self.has(key):
                yield compare(key, value, self[key], atol=atol, rtol=rtol, where=where)

    def gradients(
        self, prefix: str, gradients: Mapping[str, Any], converter: Converter, *, skip: str = "", share: float = GRADIENT_SHARE
    ) -> Iterator[Comparison]:
        """Compares the recorded gradients `<prefix><their parameter>`, converted to our layout by the importer, with ours.

        Args:
          prefix: of the keys.
          gradients: ours, with the structure of the module's params.
          converter: of the network.
          skip: regular expression of their parameter names to skip.
          share: absolute tolerance, as a share of the largest entry.
        """
        ours = flat_leaves({"params": gradients})
        for found in self.find(re.escape(prefix) + "(.+)"):
            if re.fullmatch(skip, found[1]):
                continue
            ((path, theirs),) = flat_leaves(converter({found[1]: self[found[0]]})).items()
            yield compare(found[0], ours[path], theirs, atol=share * np.abs(theirs).max(), rtol=GRADIENT_RTOL)


@dataclasses.dataclass(frozen=True)
class Network:
    """One of our networks with an original's weights.

    Attributes:
      family: kind of network.
      model: its model config.
      variables: {"params", "batch_stats"}.
      check: whether every name and shape of the weights matches.
    """

    family: Family
    model: Any
    variables: dict[str, Any]
    check: Comparison

    @classmethod
    def from_weights(cls, family: Family, weights: Mapping[str, np.ndarray], name: str = "weights") -> Network:
        """Converts a state_dict with the importer."""
        model = configs.load(f"{family.stage}:reference").model
        model.update(family.sizes(weights))
        variables, problems = match(weights, family.converter, jax.eval_shape(lambda: family.init(model)))
        detail = f" ({'; '.join(problems)})" if problems else ""
        return cls(family, model, variables, Comparison(f"{name}: names and shapes{detail}", float("inf") if problems else 0.0))

    def widened(self) -> Network:
        """With variables in double precision."""
        return dataclasses.replace(self, variables=jax.tree.map(lambda value: np.asarray(value, np.float64), self.variables))


Reader = Callable[[Vectors], Iterator[Comparison]]
"""Compares the results recorded in a folder."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz file, float16 converted to float32.

    Raises:
      InputError: the file is missing or not an npz file of arrays.
    """
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or not an npz file of arrays: give the folder of the recorded networks.") from error
    return {key: value.astype(np.float32) if value.dtype == np.float16 else value for key, value in arrays.items()}
