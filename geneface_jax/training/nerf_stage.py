"""What the two stages of the vanilla NeRF share: one frame per step, the update, and a start that is made again when it is dead."""

from __future__ import annotations

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
from geneface_jax.training.dead_start import StartRule, begun_anew, first_start, given_up, observe
from geneface_jax.training.field_losses import psnr
from geneface_jax.training.nerf_optimizer import nerf_optimizer
from geneface_jax.training.stage import Metrics, State

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
        self.rule = StartRule(config.restart.steps, config.restart.fall, config.restart.retries)
        self.intrinsics = np.asarray(subject.intrinsics, np.float32)
        self.train_frames = np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)
        self._told = 0
        record_camera(config, subject.size, subject.intrinsics._asdict())

    def init(self, rng: jax.Array) -> State:
        """First parameters, Adam moments, and the record of this start."""
        return {**jax.jit(self._fresh)(rng), "start": first_start(len(PASSES))}

    def _fresh(self, rng: jax.Array) -> State:
        # This generator is one instruction of the device: the usual one would be compiled in full for every parameter.
        quick = jax.random.wrap_key_data(jnp.tile(jax.random.key_data(rng), 2), impl="unsafe_rbg")
        params = self.model.init(quick, jnp.asarray(self.windows[0]), method="initialise")["params"]
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
        start, again, hopeless = observe(self.rule, state["start"], step, losses, nothing)
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
            raise InputError(given_up(self.rule))
        told, self._told = self._told, max(self._told, math.ceil(means["restarts"]))
        return [begun_anew(self.rule, attempt) for attempt in range(told + 1, self._told + 1)]


def two_passes(fine: jax.Array, coarse: jax.Array, target: jax.Array, weights: ConfigDict) -> dict[str, jax.Array]:
    """`loss` (weighted), `mse` (of the fine pass) and `mse_coarse` of colours [R, 3]; `weights` has `fine` and `coarse`."""
    errors = jnp.mean((fine - target) ** 2), jnp.mean((coarse - target) ** 2)
    return {"loss": weights.fine * errors[0] + weights.coarse * errors[1], "mse": errors[0], "mse_coarse": errors[1]}
