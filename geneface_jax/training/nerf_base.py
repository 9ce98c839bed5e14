"""Base of the vanilla NeRF stages: one frame per step, restart of a dead initialization, validation."""

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
from geneface_jax.data.pixel_sampling import draw_box_pixels
from geneface_jax.data.subject import Subject, record_camera, record_dataset
from geneface_jax.models.nerf import TwoFields
from geneface_jax.rendering.nerf import Noise, RaySettings
from geneface_jax.training import devices
from geneface_jax.training.field_base import difference, heldout_frames, to_uint8, training_frames
from geneface_jax.training.field_losses import psnr
from geneface_jax.training.optimizers import nerf_optimizer
from geneface_jax.training.stage import Evaluation, Phase, Stage
from geneface_jax.typing import Array, Metrics, State

# -------- Detection and restart of a dead initialization
#
# A vanilla NeRF whose initial densities are all below zero shows only the background, and its ReLU passes no gradient that could change
# that: the loss never falls. Decisions are a pure function of the state, so that a resumed run makes the same ones.

ALIVE_BELOW = 0.5
"""A loss below this share of the empty network's loss never counts as dead: in a warm-started run it has little left to fall."""

RestartState = dict[str, jax.Array]
"""`attempt`: number of restarts; `began`: the step this attempt began at; `first`, `last` [P]: sums of the losses of its first and last
steps; `nothing` [P]: sum over the last steps of the loss of an empty network."""


@dataclasses.dataclass(frozen=True)
class RestartRule:
    """When an initialization counts as dead.

    Attributes:
      steps: observed steps of an attempt; 0 switches restarts off.
      fall: share by which the loss must have fallen by then.
      retries: limit of restarts.
    """

    steps: int
    fall: float
    retries: int

    @property
    def window(self) -> int:
        """Steps over which the first and the last loss are averaged."""
        return max(1, self.steps // 20)


def initial_restart_state(passes: int) -> RestartState:
    """State of a new run; P = `passes` losses are observed, and one that does not fall is enough for a restart."""
    return {"attempt": jnp.int32(0), "began": jnp.int32(0), **{name: jnp.zeros(passes) for name in ("first", "last", "nothing")}}


def update_restart(
    rule: RestartRule, start: RestartState, step: jax.Array, losses: jax.Array, nothing: jax.Array
) -> tuple[RestartState, jax.Array, jax.Array]:
    """Records a step's losses and decides on a restart.

    Args:
      rule: see `RestartRule`.
      start: the state before the step.
      step: [] number of the step, counted from 0.
      losses: [P] of the step, one for each network that may be dead.
      nothing: [P] what they would be for an empty network, which shows only the background.

    Returns:
      (state after the step, restart, failed): two [] bools of which at most one is true, and only at the end of the observed steps:
      whether the network is to be initialized again (the returned state is already that of the new attempt), and whether the last attempt
      was dead too.
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
    not_falling = (seen["last"] > (1.0 - rule.fall) * seen["first"]) & (seen["last"] > ALIVE_BELOW * seen["nothing"])
    dead = jnp.any(not_falling) & (age == rule.steps - 1)
    restart = dead & (start["attempt"] < rule.retries)
    fresh = {**initial_restart_state(len(losses)), "attempt": start["attempt"] + 1, "began": jnp.asarray(step + 1, jnp.int32)}
    after = jax.tree.map(lambda new, old: jnp.where(restart, new, old), fresh, seen)
    return after, restart, dead & ~restart


def restart_message(rule: RestartRule, attempt: int) -> str:
    """Sentence for the user about restart number `attempt`."""
    return (
        f"the loss did not fall by {rule.fall:.0%} within {rule.steps} steps, a dead start: restarted with other initial parameters "
        f"(start {attempt + 1} of at most {rule.retries + 1})"
    )


def give_up_message(rule: RestartRule) -> str:
    """Sentence for the user if the last attempt was dead too."""
    return (
        f"In {rule.retries + 1} starts in a row the loss did not fall by {rule.fall:.0%} within {rule.steps} steps: start with "
        "--config.model.density_start=1, check masks and cameras in the dataset's report.html, or train on regardless with "
        "--config.restart.steps=0."
    )


# -------- Validation on held-out frames, at a reduced size to be fast

SHOWN = 4
"""Frames in the validation image."""


def shrink(pictures: np.ndarray, size: int) -> np.ndarray:
    """[..., H, H, C] -> [..., size, size, C] float32, means over squares. Raises InputError if `size` does not divide H."""
    height = pictures.shape[-3]
    if size < 1 or height % size:
        raise InputError(f"config.data.eval_size is {size}, which does not divide the {height} pixels of the dataset: give 0 or a divisor.")
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
    """Renders held-out frames and measures their PSNR inside a box.

    Args:
      subject: the dataset.
      count: number of frames. size: pixels per side, 0 for the dataset's.
      truth: frame numbers [n] -> uint8 [n, H, W, 3].
      render: (frame, size) -> [size, size, 3] in [0, 1].
      box: frame -> x0, y0, x1, y1 in the dataset's pixels.
      tag: name of the mean PSNR.
    """
    size = size or subject.size
    chosen = heldout_frames(subject, count)
    if not len(chosen):  # a dataset without held-out frames can be trained on, but not validated with
        return Evaluation({})
    expected = shrink(truth(chosen), size) / 255.0
    errors, rows = [], []
    for i, frame in enumerate(chosen):
        ours = np.clip(render(int(frame), size), 0.0, 1.0)
        x0, y0, x1, y1 = (np.asarray(box(int(frame))) * (size / subject.size)).round().astype(int)
        errors.append(np.mean((ours[y0:y1, x0:x1] - expected[i, y0:y1, x0:x1]) ** 2))
        rows.append(np.concatenate([expected[i], ours, difference(ours, expected[i])], axis=1))
    picture = to_uint8(np.concatenate(rows[:SHOWN]))
    return Evaluation({tag: float(np.mean(psnr(np.asarray(errors))))}, images={"val/truth_ours_difference": picture})


# -------- Base class of the vanilla NeRF stages

Loss = Callable[[Any], tuple[jax.Array, dict[str, jax.Array]]]
"""params -> (loss, metrics with `PASSES`)."""

PASSES = ("mse", "mse_coarse")
"""Errors of the fine and the coarse pass; each has a field of its own, and either may be dead."""


class NerfStage(Stage):
    """Base of the head and torso stages of the vanilla NeRF.

    A batch is R pixels of one frame: `frame` [R], the same number in every row, so that it can be split over any number of devices.

    Args of the constructor:
      config: the stage's own copy of its config; the camera is recorded in it.
      subject: the dataset.
      model: the trained network.
      settings: sampling of its rays.
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
        self.train_frames = training_frames(subject)
        self._restarts_reported = 0
        record_camera(config, subject.size, subject.intrinsics._asdict())
        record_dataset(config, subject.fingerprint)

    def phases(self) -> list[Phase]:
        """The attention, the fall of the learning rate to a tenth, and the decision about a dead start."""
        steps, tenth, rule = self.config.train.steps, self.config.optimizer.tenth_after, self.rule.steps
        attention = self.config.model.get("attention_from", 0)
        found = [Phase("optimizer.tenth_after", tenth, tenth - 1, steps, steps * 5 // 8, "learning rate that falls to a tenth")]
        if attention:
            found.append(Phase("model.attention_from", attention, attention, steps, steps // 2, "attention over the window"))
        if rule:
            found.append(Phase("restart.steps", rule, rule - 1, steps, steps // 10, "restart after a dead start"))
        return found

    def init(self, rng: jax.Array) -> State:
        """Initial parameters, Adam moments, and the state of the restart rule."""
        return {**jax.jit(self._initialize)(rng), "start": initial_restart_state(len(PASSES))}

    def _initialize(self, rng: jax.Array) -> State:
        # This generator is a single device instruction; the default one would be compiled in full for every parameter.
        fast_rng = jax.random.wrap_key_data(jnp.tile(jax.random.key_data(rng), 2), impl="unsafe_rbg")
        params = self.model.init(fast_rng, jnp.asarray(self.windows[0]), method="initialize")["params"]
        return {"params": params, "opt_state": self.optimizer.init(params)}

    def pixel_batch(self, step: int, targets: np.ndarray, box: Callable[[int], np.ndarray]) -> dict[str, np.ndarray]:
        """R pixels of one frame, most of them in its `box`, of targets [T, H, W, 3] and the background."""
        rng = np.random.default_rng((self.config.seed, step))
        frame = int(rng.choice(self.train_frames))
        data, size = self.config.data, self.subject.size
        pixels = draw_box_pixels(rng, box(frame), data.box_share, data.rays, (size, size))
        row, column = pixels[:, 0], pixels[:, 1]
        return {
            "frame": np.full(data.rays, frame, np.int32),
            "pixels": pixels,
            "target": targets[frame, row, column],
            "background": self.subject.background[row, column],
        }

    def noise(self, rng: jax.Array, rays: int) -> Noise:
        """Sampling noise of this device's rays, independent of the number of devices."""
        shift, quantile = (
            jax.vmap(lambda ray, key=key, count=count: jax.random.uniform(jax.random.fold_in(key, ray), (count,)))
            for key, count in zip(jax.random.split(rng), (self.settings.samples, self.settings.fine_samples), strict=True)
        )
        rows = devices.global_indices(rays)
        return Noise(shift(rows), quantile(rows))

    def update(self, state: State, loss: Loss, nothing: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step; at the end of a dead attempt parameters and optimizer are initialized again from the next seed.

        `loss` is of the parameters, on this device's rays; `nothing` [2] is what `PASSES` would be on them for an empty network.
        """
        grads, metrics = jax.grad(loss, has_aux=True)(state["params"])
        grads, metrics, nothing = devices.mean((grads, metrics, nothing))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        trained = {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}
        losses = jnp.stack([metrics[name] for name in PASSES])
        start, restart, failed = update_restart(self.rule, state["start"], step, losses, nothing)
        if self.rule.steps:
            rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), 0), start["attempt"])
            trained = jax.lax.cond(restart, lambda: self._initialize(rng), lambda: trained)
        metrics = {
            **metrics,
            "psnr": psnr(metrics["mse"]),
            "grad_norm": optax.tree.norm(grads),
            "restarts": start["attempt"].astype(jnp.float32),
            "hopeless": failed.astype(jnp.float32),
        }
        return {**trained, "start": start}, metrics

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """Reports restarts. Raises InputError if the last attempt that the config allows was dead too."""
        if means["hopeless"] > 0:
            raise InputError(give_up_message(self.rule))
        reported, self._restarts_reported = self._restarts_reported, max(self._restarts_reported, math.ceil(means["restarts"]))
        return [restart_message(self.rule, attempt) for attempt in range(reported + 1, self._restarts_reported + 1)]


def two_passes(fine: Array, coarse: Array, target: Array, weights: ConfigDict) -> dict[str, jax.Array]:
    """`loss` (weighted), `mse` (of the fine pass) and `mse_coarse` of colors [R, 3]; `weights` has `fine` and `coarse`."""
    errors = jnp.mean((fine - target) ** 2), jnp.mean((coarse - target) ** 2)
    return {"loss": weights.fine * errors[0] + weights.coarse * errors[1], "mse": errors[0], "mse_coarse": errors[1]}
