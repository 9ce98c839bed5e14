"""How long an update is, beside how long the parameters are: what a rate that is too high shows first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax


def with_norms(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a stage's `train_step`: its metrics gain `param_norm` and `update_norm`, Euclidean, over the collection `params`.

    (Every stage reports the norms of its own gradients as `grad_norm`: what is a gradient, a stage alone knows.)
    """

    def step_fn(state: Any, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[Any, Any]:
        before = state["params"]
        state, metrics = train_step(state, data, batch, rng, step)
        change = jax.tree.map(lambda new, old: new - old, state["params"], before)
        return state, {**metrics, "param_norm": optax.tree.norm(state["params"]), "update_norm": optax.tree.norm(change)}

    return step_fn
