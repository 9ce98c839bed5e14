"""One bit a cell, eight cells a byte, least significant bit first."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pack_bits(grid: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Bit field of the cells that are strictly greater than a threshold, so that -1 (never seen) is never set.

    Args:
      grid: [...] numbers, a multiple of 8 of them; compared in float32.
      threshold: scalar.

    Returns:
      [cells / 8] uint8; cell n of the flattened grid is bit n % 8 of byte n // 8.

    Raises:
      ValueError: the number of cells is no multiple of 8.
    """
    grid = jnp.asarray(grid)
    if grid.size % 8:
        raise ValueError(f"grid must hold a multiple of 8 cells, got shape {grid.shape}")
    return jnp.packbits(grid.astype(jnp.float32).reshape(-1) > threshold, bitorder="little")


def unpack_bits(bits: jax.Array) -> jax.Array:
    """[cells] bool of a bit field [cells / 8] uint8.

    Raises:
      ValueError: `bits` is no flat uint8 array.
    """
    bits = jnp.asarray(bits)
    if bits.ndim != 1 or bits.dtype != jnp.uint8:
        raise ValueError(f"bits must be uint8 of shape [cells / 8], got {bits.dtype} of shape {bits.shape}")
    return jnp.unpackbits(bits, bitorder="little").astype(bool)
