"""The optimiser of the radiance fields: Adam with a rate per kind of parameter and exponential decay (RAD-NeRF's recipe)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from geneface_jax.training.ema import averaged


def decayed_rate(optimizer: ConfigDict, steps: int) -> optax.Schedule:
    """lr * final_factor ** (step / steps), the original's 0.1 ** (n / 250000) for any length of training."""
    return optax.exponential_decay(optimizer.lr, transition_steps=steps, decay_rate=optimizer.final_factor)


def scale_by_kind(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies updates of every parameter whose path contains a key of `multipliers` (grids learn 10 times faster than networks)."""

    def update(updates, state, params=None):
        del params

        def scaled(path, u):
            name = jax.tree_util.keystr(path)
            return u * next((factor for key, factor in multipliers.items() if key in name), 1.0)

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def field_optimizer(optimizer: ConfigDict, steps: int, rates: Mapping[str, float] | None = None) -> optax.GradientTransformation:
    """Adam (eps 1e-15: grid gradients are tiny) with rates per kind, under a moving average where the config asks for one.

    Args:
      optimizer: `lr`, `final_factor`, `multipliers` (part of a parameter's path -> factor), optionally `ema` (see `ema.averaged`, which
        says where gradients must be taken then).
      steps: length of the training run.
      rates: part of a parameter's path -> its own rate at the start, in place of `lr` and a factor.
    """
    multipliers: dict[str, Any] = {key: rate / optimizer.lr for key, rate in (rates or {}).items()}
    multipliers |= dict(optimizer.multipliers)
    adam = optax.chain(
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-15),
        scale_by_kind(multipliers),
        optax.scale_by_learning_rate(decayed_rate(optimizer, steps)),
    )
    return averaged(adam, optimizer.get("ema", 0.0))
