"""From occupied lattice points to sample buffers of a fixed size."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Samples(NamedTuple):
    """Occupied lattice points of N rays, packed into M rows.

    Attributes:
      ray: [M] int32 ray of each row (N for unused rows).
      slot: [M] int32 number of the sample on its ray.
      step: [M] int32 lattice point.
      used: [M] bool.
      complete: [N] bool, all samples of the ray are in the buffer. A ray that is not must not be compared with a pixel.
    """

    ray: jax.Array
    slot: jax.Array
    step: jax.Array
    used: jax.Array
    complete: jax.Array


def pack_samples(hit: jax.Array, max_samples: int, budget: int) -> Samples:
    """Packs the first `max_samples` hits of each ray into a buffer of `budget` rows, ray after ray.

    When the budget is too small the last rays lose samples, which `complete` tells.

    Args:
      hit: [N, K] bool.
      max_samples: most samples of one ray.
      budget: M, rows of the buffer (static).
    """
    n, k = hit.shape
    slot = jnp.cumsum(hit, axis=1, dtype=jnp.int32) - 1
    keep = hit & (slot < max_samples)
    flat = jnp.nonzero(keep.reshape(-1), size=budget, fill_value=n * k)[0].astype(jnp.int32)
    used = flat < n * k
    ray = jnp.where(used, flat // k, n)
    wanted = jnp.sum(keep, axis=1, dtype=jnp.int32)
    safe = jnp.where(used, flat, 0)
    return Samples(ray, slot.reshape(-1)[safe], safe % k, used, jnp.cumsum(wanted) <= budget)


def first_occupied(hit: jax.Array, max_samples: int) -> tuple[jax.Array, jax.Array]:
    """Lattice points of each ray's first samples, ray by ray (the layout of inference).

    Args:
      hit: [N, K] bool.

    Returns:
      ([N, max_samples] int32 lattice points in order, 0 where there are fewer; [N] int32 number of samples, at most max_samples).
    """
    n, k = hit.shape
    slot = jnp.where(hit, jnp.cumsum(hit, axis=1, dtype=jnp.int32) - 1, max_samples)
    steps = jnp.zeros((n, max_samples), jnp.int32)
    rows = jnp.broadcast_to(jnp.arange(n)[:, None], (n, k))
    lattice = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), (n, k))
    steps = steps.at[rows, slot].set(lattice, mode="drop", unique_indices=False)
    return steps, jnp.minimum(jnp.sum(hit, axis=1, dtype=jnp.int32), max_samples)
