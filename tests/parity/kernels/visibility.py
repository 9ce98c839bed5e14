"""Cells that no training camera sees: they receive no gradient, so they are kept empty whatever the field says there."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from geneface_kernels.occupancy import cascade_extent, cell_centers

UNSEEN = -1.0
"""Density of a cell that no training camera sees. Updates skip it, and it is below every threshold."""


def count_views(poses: jax.Array, intrinsics: Sequence[float], resolution: int, cascades: int, bound: float) -> jax.Array:
    """Number of cameras that have each cell's center in their view, extended by one cell.

    Args:
      poses: [P, 4, 4] camera to world, with z the viewing direction (the original's convention; an OpenGL pose looks along -z, so
        change the sign of its second and third columns first).
      intrinsics: fx, fy, cx, cy in pixels of one image; the view spans [0, 2 cx] by [0, 2 cy].
      resolution: R, cells per side.
      cascades: C.
      bound: the last cascade spans [-bound, bound]^3.

    Returns:
      [C, R, R, R] int32.

    Raises:
      ValueError: wrong shape of `poses` or number of `intrinsics`.
    """
    if jnp.ndim(poses) != 3 or jnp.shape(poses)[1:] != (4, 4):
        raise ValueError(f"poses must be [P, 4, 4], got shape {jnp.shape(poses)}")
    if len(intrinsics) != 4:
        raise ValueError(f"intrinsics must be fx, fy, cx and cy, got {len(intrinsics)} numbers")
    poses = jnp.asarray(poses, jnp.float32)
    fx, fy, cx, cy = intrinsics

    def views(cascade: int) -> jax.Array:
        extent = cascade_extent(cascade, bound)
        centers, margin = cell_centers(resolution, extent), 2.0 * extent / resolution

        # One pose after the other: all at once would need P * R^3 points.
        def add(count: jax.Array, pose: jax.Array) -> tuple[jax.Array, None]:
            # R^T (x - t) as row vectors, in full precision: a GPU would otherwise round to TF32, an error of 1e-3 of the distance.
            x, y, z = jnp.dot(centers - pose[:3, 3], pose[:3, :3], precision=jax.lax.Precision.HIGHEST).T
            seen = (z > 0) & (jnp.abs(x) < cx / fx * z + margin) & (jnp.abs(y) < cy / fy * z + margin)
            return count + seen, None

        return jax.lax.scan(add, jnp.zeros(resolution**3, jnp.int32), poses)[0].reshape((resolution,) * 3)

    return jnp.stack([views(cascade) for cascade in range(cascades)])


def mark_untrained(grid: jax.Array, views: jax.Array) -> jax.Array:
    """Sets the cells that no camera sees to `UNSEEN`; done once, before training.

    Args:
      grid: densities, any shape.
      views: counts of `count_views`, same shape.

    Raises:
      ValueError: the shapes differ.
    """
    if grid.shape != views.shape:
        raise ValueError(f"views must have the shape of grid, {grid.shape}, got {views.shape}")
    return jnp.where(views == 0, UNSEEN, grid)
