"""When a loss breaks: go back to the last good checkpoint and on at a lower rate, a few times, and then say so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.io import read_json, write_json
from geneface_jax.io import checkpoints, configs

RETURNS_FILE = "returns.json"
RATE_KEY = "lr"
"""A config leaf of this name is a learning rate."""


class NotFiniteError(Exception):
    """Metrics that are NaN or infinite after `step` updates; `tags` names them."""

    def __init__(self, tags: Sequence[str], step: int):
        super().__init__(f"{', '.join(tags)} is not finite at step {step}")
        self.tags, self.step = list(tags), step


def finite_means(pending: Sequence[Mapping[str, jax.Array]], step: int) -> dict[str, float]:
    """Means over updates, fetched from the first device in one go.

    Args:
      pending: metrics of consecutive updates, [D] each and equal on all devices.
      step: how many updates the state has had after the last of them.

    Raises:
      NotFiniteError: a value is not finite. Saves come after this check, so no checkpoint holds a state that has broken.
    """
    # One device's share of every metric: a run on many hosts holds no other one's.
    fetched = jax.device_get([{tag: value.addressable_data(0) for tag, value in row.items()} for row in pending])
    table = {tag: np.array([np.ravel(row[tag])[0] for row in fetched], np.float64) for tag in fetched[0]}
    finite = np.all([np.isfinite(values) for values in table.values()], axis=0)
    if not finite.all():
        broken = int(np.argmin(finite))
        tags = [tag for tag, values in table.items() if not np.isfinite(values[broken])]
        # Where a loss is broken, that the norms are too is no news.
        raise NotFiniteError([tag for tag in tags if not tag.endswith("_norm")] or tags, step - len(fetched) + broken + 1)
    return {tag: float(values.mean()) for tag, values in table.items()}


class Returns:
    """How often a run went back, kept in `returns.json` beside its checkpoints, so that a resumed run keeps the lower rate.

    Args of the constructor:
      workdir: the work folder.
      most: returns that are allowed over the whole run.
      factor: what every return multiplies the rates by.
    """

    def __init__(self, workdir: str | os.PathLike, most: int, factor: float):
        self._workdir, self._most, self._factor = Path(workdir), most, factor
        path = self._workdir / RETURNS_FILE
        self._noted: list[dict] = read_json(path)["returns"] if path.is_file() else []

    @property
    def rate(self) -> float:
        """What the config's rates are multiplied by by now."""
        return self._factor ** len(self._noted)

    def note(self, broken: NotFiniteError, config: ConfigDict, *, write: bool) -> str:
        """Takes note of a loss that broke; the run is to begin again from the newest checkpoint.

        Args:
          broken: what broke.
          config: the run's, with its full rates.
          write: whether this process keeps the file.

        Returns:
          a sentence for the user.

        Raises:
          InputError: there were too many returns already, or the config names no rate that could be lowered.
        """
        saved = checkpoints.steps(self._workdir)
        if len(self._noted) >= self._most or not rate_keys(config):
            so_far = f" after {len(self._noted)} returns to lower rates" if self._noted else ""
            sound = f"the checkpoint of step {saved[-1]} in {self._workdir} is sound, resume from it" if saved else "start again"
            raise InputError(f"{broken}{so_far}: {sound} with a smaller learning rate or other data.")
        self._noted.append({"step": broken.step, "metrics": broken.tags, "back_to": saved[-1] if saved else 0})
        if write:
            write_json(self._workdir / RETURNS_FILE, {"returns": self._noted})
        back = f"step {saved[-1]}" if saved else "the start"
        return f"{broken}: back to {back} at {self.rate:g} of the learning rate (return {len(self._noted)} of at most {self._most})"


def rate_keys(config: ConfigDict) -> list[str]:
    """Dotted names of the learning rates in a config."""
    return [key for key in configs.keys(config) if key.split(".")[-1] == RATE_KEY]


def with_rates(config: ConfigDict, rates: ConfigDict, factor: float) -> ConfigDict:
    """A copy of `config` whose learning rates are those of `rates` times `factor`."""
    config = config.copy_and_resolve_references()
    for key in rate_keys(rates):
        *parents, leaf = key.split(".")
        source, target = rates, config
        for name in parents:
            source, target = source[name], target[name]
        target[leaf] = source[leaf] * factor
    return config
