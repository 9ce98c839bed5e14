"""A folder of recorded inputs and results of an original network, which remembers what was asked of it."""

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

GRADIENT_RTOL, GRADIENT_SHARE = 2e-3, 1e-3
"""Gradients: relative tolerance, and absolute tolerance as a share of the largest entry."""


class Vectors:
    """The arrays of `FOLDER/io.npz`. Half-precision ones hold exact values and are widened.

    Attributes:
      folder: the folder.
      arrays: key -> array.
      meta: settings the original ran with (`meta_json`).
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
        """Whether all these keys were recorded; does not count as reading them."""
        return all(key in self.arrays for key in keys)

    def find(self, pattern: str) -> list[re.Match[str]]:
        """Matches of the keys that are wholly `pattern`, in the file's order; does not count as reading them."""
        return [found for key in self.arrays if (found := re.fullmatch(pattern, key))]

    def weights(self, file: str = "weights", beside: str | None = None) -> dict[str, np.ndarray] | None:
        """A state_dict of this folder, or of another one `beside` it; None when it is not there."""
        path = (self.folder.parent / beside if beside else self.folder) / f"{file}.npz"
        return read_arrays(path) if path.is_file() else None

    def unread(self) -> list[str]:
        """Keys that nothing asked for."""
        return [key for key in self.arrays if key not in self._read]

    def compare(self, found: Mapping[str, Any], atol: float, rtol: float = 0.0, where: Any = None) -> Iterator[Comparison]:
        """Compares our results with the recorded ones of the same key; keys that were not recorded are left out."""
        for key, value in found.items():
            if self.has(key):
                yield compare(key, value, self[key], atol=atol, rtol=rtol, where=where)

    def gradients(
        self, prefix: str, gradients: Mapping[str, Any], converter: Converter, *, skip: str = "", share: float = GRADIENT_SHARE
    ) -> Iterator[Comparison]:
        """Compares the recorded gradients `<prefix><their parameter>` with ours, each brought to our layout by the importer.

        Args:
          prefix: of the keys.
          gradients: ours, a tree like the module's params.
          converter: of the network.
          skip: regular expression of their names that are no parameters as a whole.
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
    """A network of ours with an original's weights.

    Attributes:
      family: what it is.
      model: its model config.
      variables: {"params", "batch_stats"}.
      check: whether every name and shape of the weights fits.
    """

    family: Family
    model: Any
    variables: dict[str, Any]
    check: Comparison

    @classmethod
    def from_weights(cls, family: Family, weights: Mapping[str, np.ndarray], name: str = "weights") -> Network:
        """Takes a state_dict through the importer."""
        model = configs.load(f"{family.stage}:reference").model
        model.update(family.sizes(weights))
        variables, problems = match(weights, family.converter, jax.eval_shape(lambda: family.init(model)))
        detail = f" ({'; '.join(problems)})" if problems else ""
        return cls(family, model, variables, Comparison(f"{name}: names and shapes{detail}", float("inf") if problems else 0.0))

    def widened(self) -> Network:
        """With variables in double precision."""
        return dataclasses.replace(self, variables=jax.tree.map(lambda value: np.asarray(value, np.float64), self.variables))


Reader = Callable[[Vectors], Iterator[Comparison]]
"""Compares everything it knows in a folder."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz file, halves widened to float32.

    Raises:
      InputError: the file is absent or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or no plain array file: give the folder of the recorded networks.") from error
    return {key: value.astype(np.float32) if value.dtype == np.float16 else value for key, value in arrays.items()}
