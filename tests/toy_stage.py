"""A stage small enough to train a hundred times: a linear map learned with Adam from noisy targets."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from geneface_jax.training import devices
from geneface_jax.training.stage import Evaluation, Stage


def toy_config(**train: Any) -> ConfigDict:
    plan = {"steps": 20, "log_every": 5, "eval_every": 10, "save_every": 5, "keep": 2, **train}
    return ConfigDict({"stage": "toy", "seed": 7, "train": plan, "model": {"width": 3}, "optimizer": {"lr": 0.1}})


class ToyStage(Stage):
    """Uses all parts of a stage: optimizer state, device data, host batches, rng, batch statistics; counts its traces."""

    unit = "rows"
    best = ("val/error", "min")

    def __init__(self, config: ConfigDict, *, nan_at: int | None = None, signal_at: int | None = None, seconds_per_step: float = 0.0):
        self.config = config
        self.items_per_step = 8
        self.optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.optimizer.lr))
        self.traces = 0
        self.steps_seen: list[int] = []
        self._nan_at, self._signal_at, self._seconds = nan_at, signal_at, seconds_per_step

    def init(self, rng):
        params = {"w": jax.random.normal(rng, (self.config.model.width, 2))}
        return {"params": params, "opt_state": self.optimizer.init(params), "batch_stats": {"mean": jnp.zeros(2)}}

    def data(self):
        return {"truth": jnp.arange(self.config.model.width * 2.0).reshape(-1, 2)}

    def host_batch(self, step: int):
        self.steps_seen.append(step)
        if self._signal_at == step:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._seconds)
        x = np.random.default_rng((self.config.seed, step)).normal(size=(8, self.config.model.width)).astype(np.float32)
        return {"x": x}

    def train_step(self, state, data, batch, rng, step):
        self.traces += 1
        rows = devices.global_indices(batch["x"].shape[0])
        noise = jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(rng, row), (2,)))(rows)
        target = batch["x"] @ data["truth"] + 0.1 * noise

        def loss(params):
            error = batch["x"] @ params["w"] - target
            return jnp.mean(error**2), error.mean(axis=0)

        (value, mean), grads = jax.value_and_grad(loss, has_aux=True)(state["params"])
        value, mean, grads = devices.mean((value, mean, grads))
        if self._nan_at is not None:
            value = jnp.where(step == self._nan_at, jnp.nan, value)
            grads = jax.tree.map(lambda g: g + 0.0 * value, grads)
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt_state": opt_state, "batch_stats": {"mean": mean}}, {
            "loss": value,
            "grad_norm": optax.tree.norm(grads),
        }

    def evaluate(self, state, data, step):
        error = float(jnp.mean((state["params"]["w"] - data["truth"]) ** 2))
        video = np.zeros((3, 8, 8, 3), np.uint8)
        return Evaluation({"val/error": error}, images={"val/image": video[0]}, videos={"val/video": video})


if __name__ == "__main__":
    from geneface_jax.training.loop import train

    cluster = devices.cluster_from_environment()
    if cluster is not None:
        devices.join_cluster(cluster)

    chosen = toy_config(steps=int(sys.argv[2]), save_every=int(sys.argv[3]))
    try:
        train(chosen, sys.argv[1], stage=ToyStage(chosen, seconds_per_step=float(sys.argv[4])))
    except KeyboardInterrupt as stopped:  # as the command line does
        sys.exit(getattr(stopped, "exit_code", 130))
