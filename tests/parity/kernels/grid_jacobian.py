"""The full Jacobian of grid encoding by the points, as the original stores it (`dy_dx`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from geneface_kernels.grid_encoding import GridSpec, lattice
from geneface_kernels.grid_encoding.api import check_arguments


def input_jacobian(x: jax.Array, table: jax.Array, spec: GridSpec) -> jax.Array:
    """[N, L, D, C] float32 derivative of `grid_encode`; 0 for points outside [0, 1].

    Args and errors as in `grid_encode`. Where a point lies on a cell face the derivative is that of the cell above.
    """
    check_arguments(x, table, spec)
    inside, columns = lattice.keep_inside([x[:, d].astype(jnp.float32) for d in range(spec.dims)])
    levels = []
    for level in spec.plan:
        cells, fractions = lattice.locate(columns, level.scale, spec)
        upper, slopes = lattice.blend(fractions, spec), lattice.blend_slope(fractions, spec)
        total = [jnp.zeros((x.shape[0], spec.features), jnp.float32) for _ in columns]
        for corner in lattice.corners(spec.dims):
            row = lattice.corner_row(cells, corner, level).astype(jnp.int32) + level.offset
            value = table.at[row].get(mode="promise_in_bounds").astype(jnp.float32)
            for d in range(spec.dims):
                weight = level.scale * slopes[d] * lattice.corner_weight(upper, corner, leave_out=d)
                total[d] += (weight if corner[d] else -weight)[:, None] * value
        levels.append(jnp.stack(total, axis=1))
    return jnp.where(inside[:, None, None, None], jnp.stack(levels, axis=1), 0.0)
