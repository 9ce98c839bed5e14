"""Morton (z-order) indices: the bits of three coordinates interleaved, x lowest."""

from __future__ import annotations

import jax
import jax.numpy as jnp

MAX_COORDINATE = 1023
"""Ten bits a coordinate fill an int32."""

# Each step doubles the gap between the groups of bits that are still together, until two zeros lie between any two bits.
_SPREAD = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))


def morton_encode(coords: jax.Array) -> jax.Array:
    """Index of cells along the curve: bit b of x, y, z becomes bit 3b, 3b + 1, 3b + 2.

    Args:
      coords: [..., 3] integers from 0 to `MAX_COORDINATE`; higher bits are dropped.

    Returns:
      [...] int32.

    Raises:
      ValueError: `coords` does not end in three coordinates or holds no integers.
    """
    coords = jnp.asarray(coords)
    if coords.ndim == 0 or coords.shape[-1] != 3 or not jnp.issubdtype(coords.dtype, jnp.integer):
        raise ValueError(f"coords must be integers of shape [..., 3], got {coords.dtype} of shape {coords.shape}")
    bits = coords.astype(jnp.int32) & MAX_COORDINATE
    for shift, mask in _SPREAD:
        bits = (bits | bits << shift) & mask
    return bits[..., 0] | bits[..., 1] << 1 | bits[..., 2] << 2


def morton_decode(indices: jax.Array) -> jax.Array:
    """Cell coordinates of indices along the curve, the inverse of `morton_encode`.

    Args:
      indices: [...] integers from 0 to 2^30 - 1.

    Returns:
      [..., 3] int32.

    Raises:
      ValueError: `indices` holds no integers.
    """
    indices = jnp.asarray(indices)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(f"indices must be integers, got {indices.dtype} of shape {indices.shape}")
    bits = jnp.stack([indices.astype(jnp.int32) >> axis for axis in range(3)], axis=-1) & _SPREAD[-1][1]
    masks = [mask for _, mask in _SPREAD[-2::-1]] + [MAX_COORDINATE]
    for (shift, _), mask in zip(reversed(_SPREAD), masks, strict=True):
        bits = (bits | bits >> shift) & mask
    return bits


def to_morton_order(grid: jax.Array) -> jax.Array:
    """From [C, R, R, R] (x slowest) to the original's [C, R^3] along the curve.

    Args:
      grid: any type; R a power of two up to 1024, so that the curve has no gaps.

    Raises:
      ValueError: wrong shape.
    """
    if grid.ndim != 4 or len(set(grid.shape[1:])) != 1:
        raise ValueError(f"grid must be [C, R, R, R], got shape {grid.shape}")
    resolution = grid.shape[1]
    _check_resolution(resolution)
    x, y, z = jnp.moveaxis(morton_decode(jnp.arange(resolution**3)), -1, 0)
    return grid[:, x, y, z]


def from_morton_order(grid: jax.Array) -> jax.Array:
    """From the original's [C, R^3] along the curve to [C, R, R, R] (x slowest), the inverse of `to_morton_order`.

    Raises:
      ValueError: wrong shape, or not a cube whose side is a power of two up to 1024.
    """
    if grid.ndim != 2:
        raise ValueError(f"grid must be [C, R^3], got shape {grid.shape}")
    resolution = round(grid.shape[1] ** (1.0 / 3.0))
    if resolution**3 != grid.shape[1]:
        raise ValueError(f"grid must be [C, R^3], got shape {grid.shape}, where {grid.shape[1]} is no cube")
    _check_resolution(resolution)
    axis = jnp.arange(resolution, dtype=jnp.int32)
    return grid[:, morton_encode(jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1))]


def _check_resolution(resolution: int) -> None:
    if not 0 < resolution <= MAX_COORDINATE + 1 or resolution & (resolution - 1):
        raise ValueError(f"grid must have a side that is a power of two up to {MAX_COORDINATE + 1}, got {resolution}")
