"""Where the cells of a 3D occupancy grid lie, and points in them to ask a field for its density."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cascade_extent(cascade: int, bound: float) -> float:
    """Half the side of a cascade's cube: 1, 2, 4, ... and the scene's `bound` for the last one."""
    return min(2.0**cascade, bound)


def cell_centres(resolution: int, extent: float) -> jax.Array:
    """Centres of all cells of the cube [-extent, extent]^3.

    Args:
      resolution: R, cells a side.
      extent: half the cube's side, in scene units.

    Returns:
      [R^3, 3] float32, x slowest.
    """
    axis = _axis(resolution, extent)
    return jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def cell_points(noise: jax.Array, bound: float) -> jax.Array:
    """One random point in every cell of every cascade.

    Args:
      noise: [C, R, R, R, 3] in [0, 1), uniform; 0.5 gives the centres.
      bound: the last cascade spans [-bound, bound]^3.

    Returns:
      [C, R, R, R, 3] float32.

    Raises:
      ValueError: wrong shape.
    """
    cascades, resolution = noise.shape[0] if noise.ndim else 0, noise.shape[-2] if noise.ndim > 1 else 0
    if noise.shape != (cascades, resolution, resolution, resolution, 3):
        raise ValueError(f"noise must be [C, R, R, R, 3], got shape {noise.shape}")
    points = []
    for cascade in range(cascades):
        extent = cascade_extent(cascade, bound)
        centres = cell_centres(resolution, extent).reshape(noise.shape[1:])
        points.append(centres + (2.0 * noise[cascade] - 1.0) * (extent / resolution))
    return jnp.stack(points)


def _axis(resolution: int, extent: float) -> jax.Array:
    return ((2.0 * jnp.arange(resolution, dtype=jnp.float32) + 1.0) / resolution - 1.0) * extent
