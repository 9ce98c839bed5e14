"""Occupancy grids: which cells a marcher must visit (instant-ngp, appendix E; RAD-NeRF's full update)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cell_centres(resolution: int, bound: float) -> jax.Array:
    """[R^3, 3] centres of all cells in flat order (x slowest)."""
    axis = (jnp.arange(resolution, dtype=jnp.float32) + 0.5) * (2.0 * bound / resolution) - bound
    return jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def dilate(grid: jax.Array) -> jax.Array:
    """Each cell of [R, R, R] becomes the largest of itself and its six face neighbours."""
    padded = jnp.pad(grid, 1, constant_values=-jnp.inf)
    inner = slice(1, -1)
    neighbours = [grid]
    for axis in range(3):
        for side in (slice(0, -2), slice(2, None)):
            index = [inner] * 3
            index[axis] = side
            neighbours.append(padded[tuple(index)])
    return jnp.stack(neighbours).max(axis=0)


def update(grid: jax.Array, density: jax.Array, decay: float = 0.95) -> jax.Array:
    """Moving maximum; a cell of -1 (never seen by a camera) stays -1.

    Args:
      grid: [R, R, R] running densities.
      density: [R, R, R] fresh densities.
    """
    return jnp.where(grid < 0, grid, jnp.maximum(grid * decay, dilate(density)))


def occupied(grid: jax.Array, limit: float) -> jax.Array:
    """[R, R, R] bool: denser than the mean density, or than `limit` where the mean is higher."""
    threshold = jnp.minimum(jnp.mean(jnp.maximum(grid, 0.0)), limit)
    return grid > threshold
