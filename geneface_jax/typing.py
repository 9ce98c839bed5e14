"""Types that the packages share: array shapes (see `geneface_kernels.typing`), and the state and metrics of training."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
from geneface_kernels.typing import Array, Bool, Float, Float32, Int, Int32, Integer, Num, Shaped, UInt8

State: TypeAlias = dict[str, Any]
"""A training state, a plain dict pytree of arrays: `params`, `opt_state`, and collections such as `batch_stats` or `occupancy`."""

Metrics: TypeAlias = Mapping[str, jax.Array]
"""Scalars of one update, by TensorBoard tag without the `tr/` prefix."""

__all__ = ["Array", "Bool", "Float", "Float32", "Int", "Int32", "Integer", "Metrics", "Num", "Shaped", "State", "UInt8"]
