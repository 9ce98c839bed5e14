"""What the training loop asks of a stage, and the stages by name."""

import abc
import dataclasses
import difflib
import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.typing import Metrics, State

# -------- Stage: the interface between the training loop and a network; it makes the state, batches, updates and evaluations of one task
#
# A stage knows one network (or a GAN's two) and its losses, but nothing of devices, checkpoints, logs or resuming; the loop
# (`training.loop`) knows nothing of losses.


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of training that the config places at an absolute update, whatever the length of the run.

    Attributes:
      key: of the config, dotted. value: its value, in updates.
      first: the first update (from 0) of the phase.
      end: number of updates in which it must begin, usually those of the run.
      scaled: a value that suits a run of this length.
      lacks: what a run without it has not, for the sentence.
      since: for the sentence: what the `end` updates follow, if not the beginning of the run.
    """

    key: str
    value: int
    first: int
    end: int
    scaled: int
    lacks: str
    since: str = ""

    def remark(self) -> str | None:
        """Sentence for the user if the run ends before the phase; None if not."""
        if self.first < self.end:
            return None
        return (
            f"config.{self.key} is {self.value:,} but there are only {self.end:,} updates{self.since}, so this run has no {self.lacks}: "
            f"give --config.{self.key}={max(self.scaled, 1)} to have it"
        )


@dataclasses.dataclass
class Evaluation:
    """Result of an evaluation.

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


class Stage(abc.ABC):
    """One training task.

    A stage works on a copy of the config it is given; what it adds (camera, feature types, fingerprint of a head) is recorded with the run.

    Attributes:
      config: the resolved config; `config.train` belongs to the loop, the rest to the stage.
      items_per_step: how many `unit`s one step consumes over all devices (for the rate in the progress line).
      unit: what the rate counts: "clips", "frames", "rays".
      best: (tag, "min" | "max"), the evaluation scalar that chooses the best checkpoint.
      charts: title -> tags of curves that TensorBoard's custom scalars tab shows in one chart.
    """

    config: ConfigDict
    items_per_step: int
    unit: str
    best: tuple[str, str]
    charts: Mapping[str, Sequence[str]] = MappingProxyType({})

    @abc.abstractmethod
    def init(self, rng: jax.Array) -> State:
        """Initial state (one copy, no device axis). Deterministic in `rng`."""

    @abc.abstractmethod
    def data(self) -> Any:
        """Arrays every device keeps for the whole run (a pytree, may be empty); loaded once."""

    @abc.abstractmethod
    def host_batch(self, step: int) -> Any:
        """The global batch of this step: a pytree of numpy arrays with a leading axis that the number of devices divides (may be empty).

        A pure function of (config.seed, step), so that a resumed run sees the same data as an uninterrupted one.
        """

    @abc.abstractmethod
    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One update, pure, called inside pmap with the axis `devices.AXIS`.

        `batch` is this device's share. `rng` is the same on all devices: fold in the *global* item index for draws per item.
        Gradients, metrics and batch statistics must be equal on all devices on return: average them with `devices.mean`.
        """

    @abc.abstractmethod
    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Evaluates an un-replicated state on held-out data."""

    def phases(self) -> list[Phase]:
        """Parts of the training that begin at an absolute update and that the config asks for; a shorter run would silently skip them."""
        return []

    def opening_remarks(self) -> list[str]:
        """Sentences for the user when training begins."""
        return [remark for phase in self.phases() if (remark := phase.remark())]

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """Sentences for the user, given the means of the metrics since the last log.

        Raises:
          InputError: the run can't go on; it ends before anything is saved.
        """
        del means
        return []


# -------- The training stages by name: which module and class each one is

STAGES = {
    "syncnet": "syncnet.SyncNetStage",
    "audio2motion": "audio2motion.Audio2MotionStage",
    "live": "live.LiveStage",
    "postnet": "postnet.PostNetStage",
    "head": "head.HeadStage",
    "head_sr": "head.HeadSrStage",
    "torso": "torso.TorsoStage",
    "torso_sr": "torso.TorsoSrStage",
    "nerf_head": "nerf.NerfHeadStage",
    "nerf_torso": "nerf.NerfTorsoStage",
}
"""`config.stage` -> module of this package and its class, which takes the config; imported on use."""


def get_stage(config: ConfigDict) -> Stage:
    """Makes the stage that `config.stage` names; raises InputError, with the nearest name, if there is none."""
    if config.stage not in STAGES:
        nearest = difflib.get_close_matches(config.stage, STAGES, 1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(sorted(STAGES))}."
        raise InputError(f"config.stage is {config.stage!r}, which is no stage: {hint}")
    module, name = STAGES[config.stage].split(".")
    return getattr(importlib.import_module(f"geneface_jax.training.stages.{module}"), name)(config)
