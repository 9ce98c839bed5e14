"""From the sample parameters of each ray to flat buffers of a fixed number of rows."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geneface_kernels.ray_marching.marching import Marching, clamp, step_length


class MarchedSamples(NamedTuple):
    """Samples of N rays in M rows, ray after ray, each ray's in increasing t. Unused rows are zero.

    Attributes:
      points: [M, 3] float32, clamped to the scene.
      directions: [M, 3] float32.
      deltas: [M, 2] float32 (length of the sample's step, parameter at the END of the step).
      ray: [M] int32 ray of each row; N in unused rows.
      slot: [M] int32 number of the sample on its ray.
      offsets: [N] int32 row of each ray's first sample, if all rays fitted.
      counts: [N] int32 samples of each ray, those that did not fit included.
      total: [] int32 sum of `counts`.
      complete: [N] bool. A ray whose samples did not all fit has no rows at all, and must not be compared with a pixel.
    """

    points: jax.Array
    directions: jax.Array
    deltas: jax.Array
    ray: jax.Array
    slot: jax.Array
    offsets: jax.Array
    counts: jax.Array
    total: jax.Array
    complete: jax.Array


def pack(rays_o: jax.Array, rays_d: jax.Array, t: jax.Array, counts: jax.Array, marching: Marching, budget: int) -> MarchedSamples:
    """Packs the samples that `march` found.

    The buffer's rows go to rays in order of their number; from the first ray that does not fit, none does. Points are differentiable by
    the rays, with t held constant.

    Args:
      rays_o, rays_d: [N, 3].
      t: [N, S] parameters, of which the first `counts` of a ray count.
      counts: [N] int32.
      marching: static.
      budget: M, rows of the buffer (static).

    Raises:
      ValueError: the budget is no positive number.
    """
    if not isinstance(budget, int) or budget < 1:
        raise ValueError(f"budget must be a whole number of rows of at least 1, got {budget!r}")
    n, slots = t.shape
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    offsets = ends - counts
    complete = (ends <= budget) | (counts == 0)
    row = jnp.arange(budget, dtype=jnp.int32)
    # Ray of a row = how many rays end at or before it.
    ray = jnp.cumsum(jnp.zeros(budget, jnp.int32).at[ends].add(1, mode="drop"), dtype=jnp.int32)
    safe = jnp.minimum(ray, n - 1)
    used = (ray < n) & complete[safe]
    slot = jnp.where(used, row - offsets[safe], 0)
    at = jnp.where(used, t.reshape(-1).at[safe * slots + slot].get(mode="promise_in_bounds"), 0.0)
    step = step_length(at, marching)
    used_column = used[:, None]
    origin, direction = rays_o[safe], rays_d[safe]
    points = clamp(origin + direction * at[:, None], -marching.bound, marching.bound)
    return MarchedSamples(
        points=jnp.where(used_column, points, 0.0),
        directions=jnp.where(used_column, direction, 0.0),
        deltas=jnp.where(used_column, jnp.stack([step, at + step], axis=-1), 0.0),
        ray=jnp.where(used, ray, n),
        slot=slot,
        offsets=offsets,
        counts=counts,
        total=ends[-1],
        complete=complete,
    )
