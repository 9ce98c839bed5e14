"""Parameters that stay as they are, whatever the optimiser."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import jax

from data_tools.errors import InputError
from geneface_jax.io import checkpoints


def with_frozen(train_step: Callable[..., Any], patterns: Sequence[str]) -> Callable[..., Any]:
    """Wraps a stage's `train_step`: parameters that a pattern fits leave every update as they entered it.

    So do the optimiser's arrays that belong to them (moments, what a moving average is ahead by): they are found by their names, which end
    as the parameters' do.

    Args:
      train_step: see `training.stage.Stage`.
      patterns: shell patterns on names such as `params/position_encoder/table`; none freezes nothing.

    Raises (the step, when it is traced):
      InputError: a pattern fits no parameter.
    """
    if not patterns:
        return train_step

    def step_fn(state: Any, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[Any, Any]:
        names = frozen_names(state, patterns)
        after, metrics = train_step(state, data, batch, rng, step)
        keep = lambda path, old, new: old if checkpoints.path_name(path) in names else new  # noqa: E731
        return jax.tree_util.tree_map_with_path(keep, state, after), metrics

    return step_fn


def frozen_names(state: Any, patterns: Sequence[str]) -> set[str]:
    """Names of the parameters that a pattern fits, and of the optimiser's arrays that belong to them. Raises as `with_frozen`."""
    own = [name for name in checkpoints.named(state) if name.startswith("params/")]
    for pattern in patterns:
        if not fnmatch.filter(own, pattern):
            raise InputError(f"config.train.freeze has {pattern!r}, which fits no parameter: there are {', '.join(own[:5])}, …")
    frozen = {name for pattern in patterns for name in fnmatch.filter(own, pattern)}
    endings = tuple("/" + name.removeprefix("params/") for name in frozen)
    return frozen | {name for name in checkpoints.named(state) if name.startswith("opt_state/") and name.endswith(endings)}
