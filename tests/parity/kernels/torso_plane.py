"""The torso's 2D occupancy grid: where in the image plane the torso network has to be evaluated.

Coordinates are pixel positions in [-1, 1], along image rows first and columns second. `grid[a, b]` belongs to first coordinate a and
second coordinate b; the original keeps the same cells flat as b * R + a, which is the transpose.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

WINDOW = 5
"""Side of the max-pool that dilates new opacities, in cells, as in the original."""


def plane_cell_points(noise: jax.Array) -> jax.Array:
    """One random point in every cell.

    Args:
      noise: [R, R, 2] in [0, 1), uniform; 0.5 gives the centers.

    Returns:
      [R, R, 2] in [-1, 1].

    Raises:
      ValueError: wrong shape.
    """
    resolution = noise.shape[0] if noise.ndim else 0
    if noise.shape != (resolution, resolution, 2):
        raise ValueError(f"noise must be [R, R, 2], got shape {noise.shape}")
    axis = (2.0 * jnp.arange(resolution, dtype=jnp.float32) + 1.0) / resolution - 1.0
    return jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1) + (2.0 * noise - 1.0) / resolution


def plane_update(grid: jax.Array, alpha: jax.Array, decay: float = 0.95) -> jax.Array:
    """One update of the running maximum: max(grid * decay, new opacities dilated by a max-pool of `WINDOW` cells).

    Args:
      grid: [R, R] running opacities.
      alpha: [R, R] new opacities, sampled at one point per cell.
      decay: factor per update.

    Raises:
      ValueError: the shapes differ or are not two-dimensional.
    """
    if grid.ndim != 2 or grid.shape != alpha.shape:
        raise ValueError(f"grid and alpha must both be [R, R], got shapes {grid.shape} and {alpha.shape}")
    dilated = jax.lax.reduce_window(alpha, -jnp.inf, jax.lax.max, (WINDOW, WINDOW), (1, 1), "SAME")
    return jnp.maximum(grid * decay, dilated)


def plane_lookup(grid: jax.Array, points: jax.Array) -> jax.Array:
    """Bilinear value of the grid, with -1 and 1 at the first and last cell ("corners aligned") and 0 outside.

    Args:
      grid: [R, R].
      points: [N, 2]; NaN gives 0.

    Returns:
      [N].

    Raises:
      ValueError: wrong shapes.
    """
    if grid.ndim != 2 or grid.shape[0] != grid.shape[1]:
        raise ValueError(f"grid must be [R, R], got shape {grid.shape}")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be [N, 2], got shape {points.shape}")
    resolution = grid.shape[0]
    position = (points + 1.0) * (0.5 * (resolution - 1))
    first = jnp.floor(position)
    fraction = position - first
    total = jnp.zeros(points.shape[:1], grid.dtype)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        offset = jnp.asarray(corner, first.dtype)
        weight = jnp.prod(jnp.where(offset == 1, fraction, 1.0 - fraction), axis=1)
        cell = first + offset
        inside = jnp.all((cell >= 0) & (cell <= resolution - 1), axis=1)
        a, b = jnp.where(inside[:, None], cell, 0.0).astype(jnp.int32).T
        total = total + jnp.where(inside, weight * grid[a, b], 0.0)
    return total


def plane_occupied(grid: jax.Array, points: jax.Array, limit: float) -> jax.Array:
    """[N] bool: whether the torso network has to be evaluated at a point.

    Args:
      grid: [R, R] running opacities.
      points: [N, 2].
      limit: highest threshold (0.01 in the original); the threshold is the grid's mean if that is lower. GeneFace loses the mean when it
        loads a checkpoint and compares with 0, which is `limit=0.0` here.
    """
    return plane_lookup(grid, points) > jnp.minimum(jnp.mean(grid), limit)
