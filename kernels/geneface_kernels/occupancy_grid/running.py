"""The running maximum that an occupancy grid keeps of a density that training changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dilate(grid: jax.Array) -> jax.Array:
    """Each cell becomes the largest of itself and its six face neighbours in the same cube.

    Args:
      grid: [..., R, R, R]; cubes do not touch each other.

    Raises:
      ValueError: fewer than three axes.
    """
    if grid.ndim < 3:
        raise ValueError(f"grid must be [..., R, R, R], got shape {grid.shape}")
    padded = jnp.pad(grid, [(0, 0)] * (grid.ndim - 3) + [(1, 1)] * 3, constant_values=-jnp.inf)
    largest = grid
    for axis in range(3):
        for side in (slice(0, -2), slice(2, None)):
            index = [slice(1, -1)] * 3
            index[axis] = side
            largest = jnp.maximum(largest, padded[(..., *index)])
    return largest


def update(grid: jax.Array, density: jax.Array, decay: float = 0.95) -> jax.Array:
    """One update: fresh densities are dilated and folded into the decayed running maximum.

    A cell that no camera has seen (negative) stays as it is, and so does a cell whose fresh density is negative.

    Args:
      grid: [..., R, R, R] running densities.
      density: [..., R, R, R] fresh densities, one point a cell.
      decay: factor per update.

    Returns:
      [..., R, R, R].

    Raises:
      ValueError: the shapes differ or have fewer than three axes.
    """
    if grid.shape != density.shape:
        raise ValueError(f"density must have the shape of grid, {grid.shape}, got {density.shape}")
    fresh = dilate(density)
    return jnp.where((grid >= 0) & (fresh >= 0), jnp.maximum(grid * decay, fresh), grid)


def mean_density(grid: jax.Array) -> jax.Array:
    """Scalar mean over all cells of all cascades; unseen cells count as 0."""
    return jnp.mean(jnp.maximum(grid, 0.0))


def occupancy_threshold(grid: jax.Array, limit: float) -> jax.Array:
    """Scalar: the mean density, or `limit` where the mean is higher."""
    return jnp.minimum(mean_density(grid), limit)


def occupied(grid: jax.Array, limit: float) -> jax.Array:
    """Bool of the shape of `grid`: strictly denser than the threshold, so unseen cells never are.

    Args:
      grid: [R, R, R] or [C, R, R, R] running densities, all cascades together, because they share one threshold.
      limit: highest threshold (10 in the original).
    """
    return grid > occupancy_threshold(grid, limit)
