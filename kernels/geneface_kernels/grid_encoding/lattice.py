"""Lattice cells, interpolation weights and table rows of points, shared by all implementations.

Points are D vectors of one shape (`columns`) instead of one array with D columns, so that the functions also run inside a Pallas kernel.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.grid_encoding.spec import EVERY_BIT, GridSpec, Level

Columns = Sequence[jax.Array]
"""D arrays of one shape, one per dimension."""

Corner = tuple[int, ...]
"""D bits: the lower (0) or upper (1) lattice point per dimension."""


def corners(dims: int) -> list[Corner]:
    """The 2^D corners of a cell."""
    return list(itertools.product((0, 1), repeat=dims))


def keep_inside(columns: Columns) -> tuple[jax.Array, list[jax.Array]]:
    """(mask of points with all coordinates in [0, 1], which NaN is not; columns with points outside set to 0.5 to keep indices valid)."""
    inside = functools.reduce(jnp.logical_and, [(x >= 0.0) & (x <= 1.0) for x in columns])
    return inside, [jnp.where(inside, x, 0.5) for x in columns]


def locate(columns: Columns, scale: jax.Array | float, spec: GridSpec) -> tuple[list[jax.Array], list[jax.Array]]:
    """(uint32 lattice cell, position inside it in [0, 1)) per dimension, of points in [0, 1]."""
    positions = [x * scale + (0.0 if spec.align_corners else 0.5) for x in columns]
    floors = [jnp.floor(position) for position in positions]
    # Via int32: not every backend converts float to unsigned.
    cells = [f.astype(jnp.int32).astype(jnp.uint32) for f in floors]
    return cells, [position - f for position, f in zip(positions, floors, strict=True)]


def blend(fractions: Columns, spec: GridSpec) -> list[jax.Array]:
    """Interpolation weight of the upper lattice point per dimension."""
    if spec.interpolation == "linear":
        return list(fractions)
    return [f * f * (3.0 - 2.0 * f) for f in fractions]


def blend_slope(fractions: Columns, spec: GridSpec) -> list[jax.Array | float]:
    """Derivative of `blend` by the position inside the cell."""
    if spec.interpolation == "linear":
        return [1.0] * spec.dims
    return [6.0 * f * (1.0 - f) for f in fractions]


def corner_weight(upper: Columns, corner: Corner, leave_out: int | None = None) -> jax.Array:
    """Interpolation weight of a corner: the product over all dimensions, or all but `leave_out`."""
    factors = [u if bit else 1.0 - u for d, (u, bit) in enumerate(zip(upper, corner, strict=True)) if d != leave_out]
    return functools.reduce(jnp.multiply, factors)


def corner_row(cells: Columns, corner: Corner, level: Level) -> jax.Array:
    """Row inside its level, uint32 in [0, level.rows), of the lattice point `cell + corner`."""
    terms = [(cell + np.uint32(bit)) * _word(factor) for cell, bit, factor in zip(cells, corner, level.factors, strict=True)]
    if isinstance(level.hashed, bool):
        index = functools.reduce(jnp.bitwise_xor if level.hashed else jnp.add, terms)
    else:
        index = jnp.where(level.hashed, functools.reduce(jnp.bitwise_xor, terms), functools.reduce(jnp.add, terms))
    if level.mask is None:
        return jax.lax.rem(index, jnp.broadcast_to(_word(level.rows), index.shape))
    return index if isinstance(level.mask, int) and level.mask == EVERY_BIT else index & _word(level.mask)


def _word(number: jax.Array | int) -> jax.Array | np.uint32:
    return np.uint32(number) if isinstance(number, int) else number
