"""Gradient of a total-variation penalty on a grid encoding's table, at the cells of given points."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.grid_encoding import lattice
from geneface_kernels.grid_encoding.api import check_arguments
from geneface_kernels.grid_encoding.spec import GridSpec, Level


def total_variation_gradient(x: jax.Array, table: jax.Array, spec: GridSpec, weight: float) -> jax.Array:
    """Pulls the lattice point of each point's cell towards its axis neighbors (torch-ngp; off in the released models).

    With d the differences of its row to those of its (up to 2D) neighbors on the lattice, the gradient of the row is
    `weight / (2 D) * sum(d) / sqrt(sum(d**2) + 1e-9)`. Points that share a cell add up.

    Args:
      x: [N, D] floating in [0, 1]; points outside are ignored.
      table: [spec.rows, C]; read as float32.
      spec: the grid's shape (static).
      weight: of the penalty.

    Returns:
      [spec.rows, C] float32, to add to the table's gradient.

    Raises:
      ValueError: a shape or dtype does not fit.
    """
    check_arguments(x, table, spec)
    inside, columns = lattice.keep_inside([x[:, d].astype(jnp.float32) for d in range(spec.dims)])
    table = table.astype(jnp.float32)
    gradient = jnp.zeros((spec.rows, spec.features), jnp.float32)
    for number, level in enumerate(spec.plan):
        cells, _ = lattice.locate(columns, level.scale, spec)
        pull = _pull(cells, table, level, int(spec.resolutions[number]))
        update = jnp.where(inside[:, None], weight / (2 * spec.dims) * pull, 0.0)
        gradient = gradient.at[_row(cells, level)].add(update, mode="promise_in_bounds")
    return gradient


def _pull(cells: lattice.Columns, table: jax.Array, level: Level, resolution: int) -> jax.Array:
    """[N, C] sum of the differences to the existing neighbors, over the root of the sum of their squares."""
    here = table[_row(cells, level)]
    total, squares = jnp.zeros_like(here), jnp.zeros_like(here)
    for d in range(len(cells)):
        for exists, step in ((cells[d] < resolution, 1), (cells[d] > 0, -1)):
            # A missing neighbor is replaced by the point itself: difference 0, and no row beyond the level.
            neighbor = jnp.where(exists, cells[d] + np.uint32(step % 2**32), cells[d])
            difference = here - table[_row([*cells[:d], neighbor, *cells[d + 1 :]], level)]
            total, squares = total + difference, squares + difference * difference
    return total * jax.lax.rsqrt(squares + 1e-9)


def _row(cells: lattice.Columns, level: Level) -> jax.Array:
    return lattice.corner_row(cells, (0,) * len(cells), level) + np.uint32(level.offset)
