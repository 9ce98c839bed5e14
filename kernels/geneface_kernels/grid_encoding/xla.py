"""Grid encoding in plain jax.numpy: the reference, and the implementation on CPU and TPU.

Forward: levels unrolled; per level the 2^D corner values are gathered and added one by one, so that no [N, 2^D, C] array is made.
Gradients: a sequential loop over levels with one scatter or gather per corner; unrolled, XLA on CPU takes two to ten times as long.
docs/kernels.md lists the other variants tried.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.grid_encoding import lattice
from geneface_kernels.grid_encoding.spec import GridSpec, Level
from geneface_kernels.typing import Float, Float32


def encode(x: Float32[jax.Array, "N D"], table: Float[jax.Array, "rows C"], spec: GridSpec) -> Float32[jax.Array, "N features"]:
    """Encodings of points; zeros for points outside [0, 1]."""
    inside, columns = lattice.keep_inside(_columns(x))
    levels = [_interpolate(columns, table, spec, level) for level in spec.plan]
    return jnp.where(inside[:, None], jnp.concatenate(levels, axis=-1), 0.0)


def table_gradient(x: Float32[jax.Array, "N D"], g: Float32[jax.Array, "N features"], spec: GridSpec) -> Float32[jax.Array, "rows C"]:
    """Sum over points and corners of weight times upstream gradient `g`."""
    inside, columns = lattice.keep_inside(_columns(x))
    g_levels = jnp.moveaxis(jnp.where(inside[:, None], g, 0.0).reshape(-1, spec.levels, spec.features), 1, 0)
    largest = int(spec.level_rows.max())

    def one_level(_: None, level: Level, g_level: jax.Array) -> tuple[None, jax.Array]:
        cells, fractions = lattice.locate(columns, level.scale, spec)
        upper = lattice.blend(fractions, spec)
        total = jnp.zeros((largest, spec.features), jnp.float32)
        for corner in lattice.corners(spec.dims):
            update = lattice.corner_weight(upper, corner)[:, None] * g_level
            total = total.at[lattice.corner_row(cells, corner, level)].add(update, mode="promise_in_bounds")
        return None, total

    _, per_level = _scan_levels(one_level, None, spec, g_levels)
    return jnp.concatenate([per_level[number, : level.rows] for number, level in enumerate(spec.plan)])


def input_gradient(
    x: Float32[jax.Array, "N D"], table: Float[jax.Array, "rows C"], g: Float32[jax.Array, "N features"], spec: GridSpec
) -> Float32[jax.Array, "N D"]:
    """Upstream gradient `g` times the encoding's derivative by `x`."""
    inside, columns = lattice.keep_inside(_columns(x))
    g_levels = g.T.reshape(spec.levels, spec.features, x.shape[0])

    def add_level(total: list[jax.Array], level: Level, g_level: jax.Array) -> tuple[list[jax.Array], None]:
        cells, fractions = lattice.locate(columns, level.scale, spec)
        upper, slopes = lattice.blend(fractions, spec), lattice.blend_slope(fractions, spec)
        sums = [jnp.zeros_like(t) for t in total]
        for corner in lattice.corners(spec.dims):
            # One scalar per corner, so that the D derivatives multiply it instead of its C features; written out, because a sum over a
            # short axis takes XLA on CPU twice as long.
            value = _gather(table, lattice.corner_row(cells, corner, level), level)
            along_g = functools.reduce(jnp.add, [value[:, c] * g_level[c] for c in range(spec.features)])
            for d in range(spec.dims):
                weighted = lattice.corner_weight(upper, corner, leave_out=d) * along_g
                sums[d] = sums[d] + weighted if corner[d] else sums[d] - weighted
        return [t + level.scale * slope * s for t, slope, s in zip(total, slopes, sums, strict=True)], None

    total, _ = _scan_levels(add_level, [jnp.zeros(x.shape[0], jnp.float32) for _ in columns], spec, g_levels)
    return jnp.where(inside[:, None], jnp.stack(total, axis=-1), 0.0)


def _columns(x: jax.Array) -> list[jax.Array]:
    return [x[:, d] for d in range(x.shape[1])]


def _scan_levels(body: Callable[[Any, Level, Any], tuple[Any, Any]], carry: Any, spec: GridSpec, per_level: Any) -> Any:
    """`lax.scan` of `body(carry, level, per_level[number of the level])`; `hashed` stays static if all levels agree."""
    plan = spec.stacked_plan
    shared = {"hashed": plan.hashed} if isinstance(plan.hashed, bool) else {}
    arrays = jax.tree.map(jnp.asarray, plan._replace(**dict.fromkeys(shared)))
    return jax.lax.scan(lambda carry, x: body(carry, x[0]._replace(**shared), x[1]), carry, (arrays, per_level))


def _gather(table: jax.Array, row: jax.Array, level: Level) -> jax.Array:
    """[N, C] float32 table entries of rows inside a level."""
    offset = np.uint32(level.offset) if isinstance(level.offset, int) else level.offset
    return table.at[row + offset].get(mode="promise_in_bounds").astype(jnp.float32)


def _interpolate(columns: lattice.Columns, table: jax.Array, spec: GridSpec, level: Level) -> jax.Array:
    """[N, C] interpolated values of one level."""
    cells, fractions = lattice.locate(columns, level.scale, spec)
    upper = lattice.blend(fractions, spec)
    total = jnp.zeros((columns[0].shape[0], spec.features), jnp.float32)
    for corner in lattice.corners(spec.dims):
        total += lattice.corner_weight(upper, corner)[:, None] * _gather(table, lattice.corner_row(cells, corner, level), level)
    return total
