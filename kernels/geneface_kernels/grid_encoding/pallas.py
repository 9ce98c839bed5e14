"""Grid encoding as Pallas kernels for NVIDIA GPUs.

One program handles one block of points at one level (the input gradient: all levels), so that concurrent programs gather from few levels,
which stay in the cache. The table stays in global memory; the parameters of a level are read from two small arrays. Results are stored
level-major, [L * C, N], so that stores of neighboring lanes are coalesced.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from geneface_kernels import backend
from geneface_kernels.grid_encoding import lattice
from geneface_kernels.grid_encoding.spec import GridSpec, Level
from geneface_kernels.typing import Float, Float32

BLOCK = 128
"""Points per program (a power of two)."""


def encode(
    x: Float32[jax.Array, "N D"], table: Float[jax.Array, "rows C"], spec: GridSpec, interpret: bool
) -> Float32[jax.Array, "N features"]:
    """Same as `xla.encode`."""
    columns, points = _pad(x)
    if not points:
        return jnp.zeros((0, spec.output_dim), jnp.float32)
    out = backend.kernel_call(
        functools.partial(_encode_kernel, spec),
        name="grid_encode",
        out_shape=jax.ShapeDtypeStruct((spec.output_dim, columns[0].size), jnp.float32),
        grid=(columns[0].size // BLOCK, spec.levels),
        in_specs=[_points_block()] * spec.dims + [backend.whole_array()] * 3,
        out_specs=backend.whole_array(),
        interpret=interpret,
    )(*columns, table, *_level_arrays(spec))
    return out[:, :points].T


def table_gradient(
    x: Float32[jax.Array, "N D"], g: Float32[jax.Array, "N features"], spec: GridSpec, interpret: bool
) -> Float32[jax.Array, "rows C"]:
    """Same as `xla.table_gradient`."""
    columns, points = _pad(x)
    zeros = jnp.zeros((spec.rows, spec.features), jnp.float32)
    if not points:
        return zeros
    return backend.kernel_call(
        functools.partial(_table_gradient_kernel, spec, interpret),
        name="grid_encode_table_gradient",
        out_shape=jax.ShapeDtypeStruct(zeros.shape, zeros.dtype),
        grid=(columns[0].size // BLOCK, spec.levels),
        in_specs=[_points_block()] * spec.dims + [backend.whole_array()] * 4,
        out_specs=backend.whole_array(),
        input_output_aliases={spec.dims + 3: 0},
        interpret=interpret,
    )(*columns, _pad_level_major(g, columns[0].size), *_level_arrays(spec), zeros)


def input_gradient(
    x: Float32[jax.Array, "N D"],
    table: Float[jax.Array, "rows C"],
    g: Float32[jax.Array, "N features"],
    spec: GridSpec,
    interpret: bool,
) -> Float32[jax.Array, "N D"]:
    """Same as `xla.input_gradient`."""
    columns, points = _pad(x)
    if not points:
        return jnp.zeros((0, spec.dims), jnp.float32)
    out = backend.kernel_call(
        functools.partial(_input_gradient_kernel, spec),
        name="grid_encode_input_gradient",
        out_shape=[jax.ShapeDtypeStruct((columns[0].size,), jnp.float32)] * spec.dims,
        grid=(columns[0].size // BLOCK,),
        in_specs=[_points_block()] * spec.dims + [backend.whole_array()] * 4,
        out_specs=[_points_block()] * spec.dims,
        interpret=interpret,
    )(*columns, _pad_level_major(g, columns[0].size), table, *_level_arrays(spec))
    return jnp.stack(out, axis=-1)[:points]


def _encode_kernel(spec: GridSpec, *refs: Any) -> None:
    *x_refs, table_ref, scales_ref, words_ref, out_ref = refs
    block, number = pl.program_id(0), pl.program_id(1)
    level = _read_level(scales_ref, words_ref, number, spec)
    inside, columns = lattice.keep_inside([ref[...] for ref in x_refs])
    cells, fractions = lattice.locate(columns, level.scale, spec)
    upper = lattice.blend(fractions, spec)
    total = jnp.zeros((BLOCK, spec.features), jnp.float32)
    for corner in lattice.corners(spec.dims):
        value = backend.load(table_ref, _table_index(lattice.corner_row(cells, corner, level), level, spec))
        total += lattice.corner_weight(upper, corner)[:, None] * value.astype(jnp.float32)
    backend.store(out_ref, _level_major_index(block, number, spec), jnp.where(inside[:, None], total, 0.0))


def _table_gradient_kernel(spec: GridSpec, interpret: bool, *refs: Any) -> None:
    *x_refs, g_ref, scales_ref, words_ref, _, out_ref = refs
    block, number = pl.program_id(0), pl.program_id(1)
    level = _read_level(scales_ref, words_ref, number, spec)
    inside, columns = lattice.keep_inside([ref[...] for ref in x_refs])
    cells, fractions = lattice.locate(columns, level.scale, spec)
    upper = lattice.blend(fractions, spec)
    g = jnp.where(inside[:, None], backend.load(g_ref, _level_major_index(block, number, spec)), 0.0)
    for corner in lattice.corners(spec.dims):
        index = _table_index(lattice.corner_row(cells, corner, level), level, spec)
        update = lattice.corner_weight(upper, corner)[:, None] * g
        if interpret:
            # In interpret mode atomic_add loses all but one of the lanes that share a row.
            out_ref[...] = out_ref[...].at[index].add(update)
        else:
            backend.atomic_add(out_ref, index, update)


def _input_gradient_kernel(spec: GridSpec, *refs: Any) -> None:
    *x_refs, g_ref, table_ref, scales_ref, words_ref = refs[: spec.dims + 4]
    out_refs = refs[spec.dims + 4 :]
    block = pl.program_id(0)
    inside, columns = lattice.keep_inside([ref[...] for ref in x_refs])

    def add_level(number: jax.Array, total: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        level = _read_level(scales_ref, words_ref, number, spec)
        cells, fractions = lattice.locate(columns, level.scale, spec)
        upper, slopes = lattice.blend(fractions, spec), lattice.blend_slope(fractions, spec)
        g = backend.load(g_ref, _level_major_index(block, number, spec))
        sums = [jnp.zeros((BLOCK,), jnp.float32) for _ in columns]
        for corner in lattice.corners(spec.dims):
            value = backend.load(table_ref, _table_index(lattice.corner_row(cells, corner, level), level, spec))
            along_g = jnp.sum(value.astype(jnp.float32) * g, axis=1)
            for d in range(spec.dims):
                weighted = lattice.corner_weight(upper, corner, leave_out=d) * along_g
                sums[d] = sums[d] + weighted if corner[d] else sums[d] - weighted
        return tuple(t + level.scale * slope * s for t, slope, s in zip(total, slopes, sums, strict=True))

    total = jax.lax.fori_loop(0, spec.levels, add_level, tuple(jnp.zeros((BLOCK,), jnp.float32) for _ in columns))
    for ref, t in zip(out_refs, total, strict=True):
        ref[...] = jnp.where(inside, t, 0.0)


def _pad(x: jax.Array) -> tuple[list[jax.Array], int]:
    """(D columns padded to whole blocks with points outside [0, 1]; number of points)."""
    points = x.shape[0]
    padded = jnp.pad(x, ((0, -points % BLOCK), (0, 0)), constant_values=-1.0)
    return [padded[:, d] for d in range(x.shape[1])], points


def _pad_level_major(g: jax.Array, size: int) -> jax.Array:
    """[L * C, size] from [N, L * C]."""
    return jnp.pad(g.T, ((0, 0), (0, size - g.shape[0])))


def _points_block() -> pl.BlockSpec:
    return pl.BlockSpec((BLOCK,), lambda block, *_: (block,))


def _level_arrays(spec: GridSpec) -> tuple[jax.Array, jax.Array]:
    """([L] float32 scales, [L, D + 4] uint32: factors, hashed, rows, mask, offset)."""
    plan = spec.stacked_plan
    mask = plan.rows if plan.mask is None else plan.mask
    columns = [*plan.factors.T, np.broadcast_to(plan.hashed, spec.levels), plan.rows, mask, plan.offset]
    return jnp.asarray(plan.scale), jnp.stack([jnp.asarray(column, jnp.uint32) for column in columns], axis=1)


def _read_level(scales_ref: Any, words_ref: Any, number: jax.Array, spec: GridSpec) -> Level:
    words = [words_ref[number, column] for column in range(spec.dims + 4)]
    hashed, rows, mask, offset = words[spec.dims :]
    plan = spec.stacked_plan
    return Level(
        scale=scales_ref[number],
        factors=words[: spec.dims],
        hashed=plan.hashed if isinstance(plan.hashed, bool) else hashed != 0,
        rows=rows,
        mask=None if plan.mask is None else mask,
        offset=offset,
    )


def _table_index(row: jax.Array, level: Level, spec: GridSpec) -> tuple[jax.Array, jax.Array]:
    """Index of [BLOCK, C] table entries: the C features of a row are adjacent, one wide load."""
    rows = jax.lax.broadcast_in_dim((row + level.offset).astype(jnp.int32), (BLOCK, spec.features), (0,))
    return rows, jax.lax.broadcasted_iota(jnp.int32, (BLOCK, spec.features), 1)


def _level_major_index(block: jax.Array, number: jax.Array, spec: GridSpec) -> tuple[jax.Array, jax.Array]:
    """Index of this program's [BLOCK, C] values in [L * C, N]."""
    shape = (BLOCK, spec.features)
    return (
        number * spec.features + jax.lax.broadcasted_iota(jnp.int32, shape, 1),
        block * BLOCK + jax.lax.broadcasted_iota(jnp.int32, shape, 0),
    )
