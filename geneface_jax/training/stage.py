"""What the training loop asks of a stage, and nothing else.

A stage is a small object that knows one network (or a GAN's two): how to make its state, one update, and how to judge it. It knows nothing
of devices, checkpoints, logs or resuming; the loop (`training.loop`) knows nothing of losses.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from geneface_jax.typing import Metrics, State


@dataclasses.dataclass
class Evaluation:
    """What an evaluation found.

    Attributes:
      scalars: tag -> number, logged under the tag as given (for example `val/mse`).
      images: tag -> uint8 [H, W, 3].
      videos: tag -> uint8 [T, H, W, 3] at 25 fps.
      sounds: tag -> (float [A] in [-1, 1], samples per second).
    """

    scalars: dict[str, float]
    images: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    videos: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sounds: dict[str, tuple[np.ndarray, int]] = dataclasses.field(default_factory=dict)


class Stage(Protocol):
    """One training task.

    Attributes:
      config: the resolved config; `config.train` belongs to the loop, the rest to the stage.
      items_per_step: how many `unit`s one step consumes over all devices (for the rate shown).
      unit: what the rate counts: "clips", "frames", "rays".
      best: (tag, "min" | "max"), which evaluation scalar names the best checkpoint.

    A stage may also have `charts`, title -> tags: curves that TensorBoard's custom scalars show in one chart.
    It may have `remarks(means)`, which is given the means of the metrics since the last log and returns sentences for the user; where it
    raises an InputError the run ends, before anything is saved.
    """

    config: ConfigDict
    items_per_step: int
    unit: str
    best: tuple[str, str]

    def init(self, rng: jax.Array) -> State:
        """Makes the first state (one copy, no device axis). Deterministic in `rng`."""

    def data(self) -> Any:
        """Arrays every device keeps for the whole run (a pytree, may be empty); loaded once."""

    def host_batch(self, step: int) -> Any:
        """The global batch of this step: a pytree of numpy arrays with a leading axis that the number of devices divides (may be empty).

        A pure function of (config.seed, step): this is what makes a resumed run see the data of an undisturbed one.
        """

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One update, pure, called inside pmap with the axis `devices.AXIS`.

        `batch` is this device's share. `rng` is the same on all devices: fold in the *global* item index for draws per item.
        Gradients, metrics and batch statistics must leave equal on all devices: average them with `devices.mean`.
        """

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Judges an un-replicated state on held-out data."""
