"""Optimisers of the speech-to-motion stages, with PyTorch's rules."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

DECAY_STEPS = 250_000
"""GeneFace's exponential schedule divides the rate by ten in as many updates."""

LOWEST_RATE = 1e-7


def learning_rate(config: ConfigDict, steps: int) -> Callable[[jax.Array], jax.Array]:
    """Schedule of an optimiser config {lr, schedule, warmup}.

    `schedule`: "constant"; "cosine" (to zero at `steps`); "exponential" (ten times less every 250,000 updates). All rise linearly over the
    first `warmup` updates. Update n uses the value at max(n - 1, 0): PyTorch's loop steps the schedule after the update.

    Raises:
      ValueError: an unknown schedule.
    """
    shapes = {
        "constant": lambda n: jnp.ones_like(n, jnp.float32),
        "cosine": lambda n: 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(n / steps, 1.0))),
        "exponential": lambda n: 0.1 ** (n / DECAY_STEPS),
    }
    if config.schedule not in shapes:
        raise ValueError(f"optimizer.schedule must be one of {', '.join(shapes)}, not {config.schedule!r}")
    shape, warmup = shapes[config.schedule], config.warmup

    def rate(count: jax.Array) -> jax.Array:
        n = jnp.maximum(count - 1, 0)
        rise = jnp.minimum(n / warmup, 1.0) if warmup else 1.0
        return jnp.maximum(config.lr * rise * shape(n), LOWEST_RATE)

    return rate


def adam(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Adam (0.9, 0.999, 1e-8) after clipping the global gradient norm at `config.clip`."""
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(learning_rate(config, steps)))


def rmsprop(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """PyTorch's RMSprop (alpha 0.99, eps 1e-8 outside the root) after clipping the global gradient norm at `config.clip`."""
    rule = optax.rmsprop(learning_rate(config, steps), decay=0.99, eps=1e-8, eps_in_sqrt=False)
    return optax.chain(optax.clip_by_global_norm(config.clip), rule)
