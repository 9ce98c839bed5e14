"""The optimiser of the vanilla NeRF: Adam, its rate falling to a tenth every so many steps, the attention's five times as large."""

from __future__ import annotations

import jax
import optax
from ml_collections import ConfigDict


def nerf_optimizer(optimizer: ConfigDict, attention_from: int = 0) -> optax.GradientTransformation:
    """Makes the optimiser.

    Args:
      optimizer: `lr`, `tenth_after` (steps), `attention` (factor of the attention's rate), `eps`.
      attention_from: the step from which the attention is used. Until then its moments rest, so that Adam counts its first gradients as the
        first, as in the original, where a parameter without a gradient has no state.
    """

    def adam() -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=0.9, b2=0.999, eps=optimizer.eps)

    attention = optax.chain(adam(), optax.scale(optimizer.attention))
    if attention_from:
        attention = optax.conditionally_mask(attention, lambda step: step >= attention_from)

    def kinds(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "attention" if "attention" in jax.tree_util.keystr(path) else "rest", params
        )

    rate = optax.exponential_decay(optimizer.lr, transition_steps=optimizer.tenth_after, decay_rate=0.1)
    return optax.chain(optax.partition({"attention": attention, "rest": adam()}, kinds), optax.scale_by_learning_rate(rate))
