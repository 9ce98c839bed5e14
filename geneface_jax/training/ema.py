"""Exponential moving average of parameters.

The average is what a checkpoint calls `params`: whoever reads a trained network gets it without knowing. How far the trained iterate is
ahead of it lies in the optimiser's state, which a release leaves behind; a warm start from the average alone starts with nothing ahead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AveragedState(NamedTuple):
    """State of the inner optimiser, iterate minus average, updates so far ([] int32)."""

    inner: Any
    ahead: Any
    count: jax.Array


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Wraps an optimiser: it steps on `iterate(params, state)`, while `params` follow as a moving average.

    Gradients must be taken at `iterate(params, state)`. The decay of update n is min(decay, n / (n + 9)), so that a short run is not
    ruled by its first parameters.

    Args:
      optimizer: what moves the iterate.
      decay: share of the average that stays, in [0, 1); 0 returns the optimiser as it is.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"the decay of an average must be in [0, 1), not {decay}")
    if decay == 0.0:
        return optimizer

    def init(params: Any) -> AveragedState:
        return AveragedState(optimizer.init(params), jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))

    def update(grads: Any, state: AveragedState, params: Any = None) -> tuple[Any, AveragedState]:
        if params is None:
            raise ValueError("an averaged optimiser needs the parameters")
        steps, inner = optimizer.update(grads, state.inner, iterate(params, state))
        count = state.count + 1
        share = jnp.minimum(decay, (count - 1) / (count + 8))
        gap = jax.tree.map(lambda ahead, step: ahead + step, state.ahead, steps)
        ahead = jax.tree.map(lambda g: share.astype(g.dtype) * g, gap)
        return jax.tree.map(lambda g, a: g - a, gap, ahead), AveragedState(inner, ahead, count)

    return optax.GradientTransformation(init, update)


def iterate(params: Any, opt_state: Any) -> Any:
    """The parameters to take gradients at: the trained iterate behind an average, or `params` themselves."""
    if not isinstance(opt_state, AveragedState):
        return params
    return jax.tree.map(jnp.add, params, opt_state.ahead)
