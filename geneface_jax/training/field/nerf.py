"""Base of the vanilla NeRF stages: one frame per step, restart of a network that begins dead, validation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.compatibility import record_camera
from geneface_jax.data.pixel_sampling import draw_box_pixels
from geneface_jax.data.subject import Subject
from geneface_jax.models.nerf import TwoFields
from geneface_jax.rendering.nerf import Noise, RaySettings
from geneface_jax.training import devices
from geneface_jax.training.field.base import heldout_frames
from geneface_jax.training.field.losses import psnr
from geneface_jax.training.optimizers import nerf_optimizer
from geneface_jax.training.stage import Evaluation
from geneface_jax.typing import Metrics, State

# ----------------------------------------------------------------------------------------------------
# Noticing that a network has begun dead, so that it can be begun anew.
#
# A vanilla NeRF whose densities all start below zero shows the bare background, and its ReLU passes no gradient that would change that: the
# loss stands still for ever. Everything here is a pure function of the state, so that a resumed run takes the same decisions.

ALIVE_BELOW = 0.5
"""A loss below this share of what showing nothing costs is no dead start, however little it fell: a run that begins with the parameters of
another one has little left to fall."""

RestartState = dict[str, jax.Array]
"""`attempt`: how many starts were given up; `began`: the step this one began at; `first`, `last` [P]: sums of the losses of its first and
last steps; `nothing` [P]: sum over the last steps of what showing nothing costs."""


@dataclasses.dataclass(frozen=True)
class RestartRule:
    """When a start counts as dead.

    Attributes:
      steps: length of a start; 0 gives none up.
      fall: share by which the loss must have fallen by then.
      retries: how many starts may be given up.
    """

    steps: int
    fall: float
    retries: int

    @property
    def window(self) -> int:
        """Steps over which the first and the last loss are averaged."""
        return max(1, self.steps // 20)


def initial_restart_state(passes: int) -> RestartState:
    """The state of a run that begins; P = `passes` losses are watched, and one that stands still is enough."""
    return {"attempt": jnp.int32(0), "began": jnp.int32(0), **{name: jnp.zeros(passes) for name in ("first", "last", "nothing")}}


def update_restart(
    rule: RestartRule, start: RestartState, step: jax.Array, losses: jax.Array, nothing: jax.Array
) -> tuple[RestartState, jax.Array, jax.Array]:
    """Takes note of a step's losses.

    Args:
      rule: see `StartRule`.
      start: the state before the step.
      step: [] number of the step, counted from 0.
      losses: [P] of the step, one for each network that may have begun dead.
      nothing: [P] what they would be if nothing were shown but the background.

    Returns:
      (start after the step, again, hopeless): two [] bools, of which at most one is true, and only at the end of a start: whether the
      network is to be begun anew (the start returned is already the new one's), and whether that was the last attempt.
    """
    if rule.steps == 0:
        return start, jnp.bool_(False), jnp.bool_(False)
    age = step - start["began"]
    at_end = (age >= rule.steps - rule.window) & (age < rule.steps)
    seen = {
        **start,
        "first": start["first"] + jnp.where(age < rule.window, losses, 0.0),
        "last": start["last"] + jnp.where(at_end, losses, 0.0),
        "nothing": start["nothing"] + jnp.where(at_end, nothing, 0.0),
    }
    stands_still = (seen["last"] > (1.0 - rule.fall) * seen["first"]) & (seen["last"] > ALIVE_BELOW * seen["nothing"])
    dead = jnp.any(stands_still) & (age == rule.steps - 1)
    again = dead & (start["attempt"] < rule.retries)
    fresh = {**initial_restart_state(len(losses)), "attempt": start["attempt"] + 1, "began": jnp.asarray(step + 1, jnp.int32)}
    after = jax.tree.map(lambda new, old: jnp.where(again, new, old), fresh, seen)
    return after, again, dead & ~again


def restart_message(rule: RestartRule, attempt: int) -> str:
    """What to tell the user when a start was given up; `attempt` counts those that were."""
    return (
        f"the loss did not fall by {rule.fall:.0%} within {rule.steps} steps, a dead start: begun anew with other first parameters "
        f"(start {attempt + 1} of at most {rule.retries + 1})"
    )


def give_up_message(rule: RestartRule) -> str:
    """What to tell the user when the last start was dead too."""
    return (
        f"{rule.retries + 1} starts in a row did not learn: the loss never fell by {rule.fall:.0%} within {rule.steps} steps; begin with "
        "--config.model.density_start=1, look at the dataset's report.html (masks, cameras), or train on regardless with "
        "--config.restart.steps=0."
    )


# ----------------------------------------------------------------------------------------------------
# Held-out frames of a vanilla NeRF against the truth, at a size at which they are quick.

SHOWN = 4
"""Frames of a comparison picture."""


def shrink(pictures: np.ndarray, size: int) -> np.ndarray:
    """[..., H, H, C] -> [..., size, size, C] float32, means over squares.

    Raises:
      InputError: `size` is no divisor of H.
    """
    height = pictures.shape[-3]
    if size < 1 or height % size:
        raise InputError(f"config.data.eval_size is {size}, which does not divide the {height} pixels of the dataset; give 0 or a divisor.")
    factor = height // size
    squares = pictures.reshape(*pictures.shape[:-3], size, factor, size, factor, pictures.shape[-1])
    return squares.astype(np.float32).mean(axis=(-4, -2))


def evaluate_frames(
    subject: Subject,
    count: int,
    size: int,
    truth: Callable[[np.ndarray], np.ndarray],
    render: Callable[[int, int], np.ndarray],
    box: Callable[[int], np.ndarray],
    tag: str,
) -> Evaluation:
    """Renders held-out frames and compares them inside a box.

    Args:
      subject: the dataset.
      count: frames. size: pixels per side, 0 for the dataset's.
      truth: frame numbers [n] -> uint8 [n, H, W, 3].
      render: (frame, size) -> [size, size, 3] in [0, 1].
      box: frame -> x0, y0, x1, y1 in the dataset's pixels.
      tag: name of the figure.
    """
    size = size or subject.size
    chosen = heldout_frames(subject, count)
    if not len(chosen):  # a dataset that holds none out can be trained on, but not judged by
        return Evaluation({})
    expected = shrink(truth(chosen), size) / 255.0
    errors, rows = [], []
    for i, frame in enumerate(chosen):
        ours = np.clip(render(int(frame), size), 0.0, 1.0)
        x0, y0, x1, y1 = (np.asarray(box(int(frame))) * (size / subject.size)).round().astype(int)
        errors.append(np.mean((ours[y0:y1, x0:x1] - expected[i, y0:y1, x0:x1]) ** 2))
        rows.append(np.concatenate([expected[i], ours, np.clip(np.abs(ours - expected[i]) * 4.0, 0, 1)], axis=1))
    picture = np.round(np.concatenate(rows[:SHOWN]) * 255.0).astype(np.uint8)
    value = float(np.mean(-10.0 * np.log10(np.maximum(errors, 1e-10))))
    return Evaluation({tag: value}, images={"val/truth_ours_difference": picture})


# ----------------------------------------------------------------------------------------------------
# What the two stages of the vanilla NeRF share: one frame per step, the update, and a start that is made again when it is dead.

Loss = Callable[[Any], tuple[jax.Array, dict[str, jax.Array]]]
"""params -> (loss, metrics with `PASSES`)."""

PASSES = ("mse", "mse_coarse")
"""Errors of the fine and the coarse pass: each has a field of its own, and either may begin dead."""


class NerfStage:
    """Base of both stages, see `training.stage.Stage`.

    A batch is R pixels of one frame: `frame` [R], the same number in every row, so that any number of devices can share it.

    Args of the constructor:
      config: of the stage.
      subject: its dataset.
      model: the network that learns.
      settings: how its rays are sampled.
      windows: [T, S, 204] condition windows of all frames ([T, S, W, 204] for W > 1).
      attention_from: the step from which the attention over the window is used.
    """

    unit = "rays"

    def __init__(
        self,
        config: ConfigDict,
        subject: Subject,
        model: TwoFields,
        settings: RaySettings,
        windows: np.ndarray,
        attention_from: int = 0,
    ):
        self.config = config
        self.subject = subject
        self.model = model
        self.settings = settings
        self.windows = windows
        self.items_per_step = config.data.rays
        self.optimizer = nerf_optimizer(config.optimizer, attention_from)
        self.rule = RestartRule(config.restart.steps, config.restart.fall, config.restart.retries)
        self.intrinsics = np.asarray(subject.intrinsics, np.float32)
        self.train_frames = np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)
        self._told = 0
        record_camera(config, subject.size, subject.intrinsics._asdict())

    def init(self, rng: jax.Array) -> State:
        """First parameters, Adam moments, and the record of this start."""
        return {**jax.jit(self._fresh)(rng), "start": initial_restart_state(len(PASSES))}

    def _fresh(self, rng: jax.Array) -> State:
        # This generator is one instruction of the device: the usual one would be compiled in full for every parameter.
        quick = jax.random.wrap_key_data(jnp.tile(jax.random.key_data(rng), 2), impl="unsafe_rbg")
        params = self.model.init(quick, jnp.asarray(self.windows[0]), method="initialize")["params"]
        return {"params": params, "opt_state": self.optimizer.init(params)}

    def draw(self, step: int, box: Callable[[int], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(frame numbers [R], all the same; pixels [R, 2]) of a step; `box` says where most pixels of a frame lie."""
        rng = np.random.default_rng((self.config.seed, step))
        frame = int(rng.choice(self.train_frames))
        data, size = self.config.data, self.subject.size
        pixels = draw_box_pixels(rng, box(frame), data.box_share, data.rays, (size, size))
        return np.full(data.rays, frame, np.int32), pixels

    def noise(self, rng: jax.Array, rays: int) -> Noise:
        """Draws for this device's rays, which do not depend on the number of devices."""
        shift, quantile = (
            jax.vmap(lambda ray, key=key, count=count: jax.random.uniform(jax.random.fold_in(key, ray), (count,)))
            for key, count in zip(jax.random.split(rng), (self.settings.samples, self.settings.fine_samples), strict=True)
        )
        rows = devices.global_indices(rays)
        return Noise(shift(rows), quantile(rows))

    def update(self, state: State, loss: Loss, nothing: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step; at the end of a dead start everything begins anew from the next seed.

        Args:
          state: before the step.
          loss: of the parameters, on this device's rays.
          nothing: [2] what `PASSES` would be on these rays if the network showed nothing.
          step: [] its number.
        """
        grads, metrics = jax.grad(loss, has_aux=True)(state["params"])
        grads, metrics, nothing = devices.mean((grads, metrics, nothing))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        trained = {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}
        losses = jnp.stack([metrics[name] for name in PASSES])
        start, again, hopeless = update_restart(self.rule, state["start"], step, losses, nothing)
        if self.rule.steps:
            rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), 0), start["attempt"])
            trained = jax.lax.cond(again, lambda: self._fresh(rng), lambda: trained)
        metrics = {
            **metrics,
            "psnr": psnr(metrics["mse"]),
            "grad_norm": optax.tree.norm(grads),
            "restarts": start["attempt"].astype(jnp.float32),
            "hopeless": hopeless.astype(jnp.float32),
        }
        return {**trained, "start": start}, metrics

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """What the loop is to say about the means of the metrics since the last log.

        Raises:
          InputError: the last start that the config allows was dead too.
        """
        if means["hopeless"] > 0:
            raise InputError(give_up_message(self.rule))
        told, self._told = self._told, max(self._told, math.ceil(means["restarts"]))
        return [restart_message(self.rule, attempt) for attempt in range(told + 1, self._told + 1)]


def two_passes(fine: jax.Array, coarse: jax.Array, target: jax.Array, weights: ConfigDict) -> dict[str, jax.Array]:
    """`loss` (weighted), `mse` (of the fine pass) and `mse_coarse` of colours [R, 3]; `weights` has `fine` and `coarse`."""
    errors = jnp.mean((fine - target) ** 2), jnp.mean((coarse - target) ** 2)
    return {"loss": weights.fine * errors[0] + weights.coarse * errors[1], "mse": errors[0], "mse_coarse": errors[1]}
