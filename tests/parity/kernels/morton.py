"""Writing the original's occupancy grids, which the package only reads: Morton decoding, Morton order, bit fields."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from geneface_kernels.occupancy import MAX_COORDINATE, check_morton_resolution

# (shift, mask): each step halves the gap between groups of bits.
_GATHER = ((2, 0x030C30C3), (4, 0x0300F00F), (8, 0x030000FF), (16, MAX_COORDINATE))


def morton_decode(indices: jax.Array) -> jax.Array:
    """Cell coordinates of Morton indices, the inverse of `morton_encode`.

    Args:
      indices: [...] integers from 0 to 2^30 - 1.

    Returns:
      [..., 3] int32.

    Raises:
      ValueError: `indices` is not of integers.
    """
    indices = jnp.asarray(indices)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(f"indices must be integers, got {indices.dtype} of shape {indices.shape}")
    bits = jnp.stack([indices.astype(jnp.int32) >> axis for axis in range(3)], axis=-1) & 0x09249249
    for shift, mask in _GATHER:
        bits = (bits | bits >> shift) & mask
    return bits


def to_morton_order(grid: jax.Array) -> jax.Array:
    """From [C, R, R, R] (x slowest) to the original's [C, R^3] along the curve, the inverse of `from_morton_order`.

    Args:
      grid: any type; R a power of two up to 1024, so that the curve has no gaps.

    Raises:
      ValueError: wrong shape.
    """
    if grid.ndim != 4 or len(set(grid.shape[1:])) != 1:
        raise ValueError(f"grid must be [C, R, R, R], got shape {grid.shape}")
    resolution = grid.shape[1]
    check_morton_resolution(resolution)
    x, y, z = jnp.moveaxis(morton_decode(jnp.arange(resolution**3)), -1, 0)
    return grid[:, x, y, z]


def pack_bits(grid: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Bit field of the cells that are strictly greater than a threshold, so that -1 (never seen) is never set.

    Args:
      grid: [...] numbers, a multiple of 8 of them; compared in float32.
      threshold: scalar.

    Returns:
      [cells / 8] uint8; cell n of the flattened grid is bit n % 8 of byte n // 8.

    Raises:
      ValueError: the number of cells is not a multiple of 8.
    """
    grid = jnp.asarray(grid)
    if grid.size % 8:
        raise ValueError(f"grid must hold a multiple of 8 cells, got shape {grid.shape}")
    return jnp.packbits(grid.astype(jnp.float32).reshape(-1) > threshold, bitorder="little")
