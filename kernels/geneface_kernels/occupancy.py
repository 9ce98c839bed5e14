"""Occupancy grids: cell positions, the running maximum of density, thresholds, and the original's Morton order and bit fields."""

import jax
import jax.numpy as jnp

from geneface_kernels.typing import Array, Bool, Float, Float32, Int32, Integer, Shaped, UInt8

# -------- Cell positions


def cascade_extent(cascade: int, bound: float) -> float:
    """Half the side of a cascade's cube: 1, 2, 4, ... and the scene's `bound` for the last one."""
    return min(2.0**cascade, bound)


def cell_centers(resolution: int, extent: float) -> Float32[jax.Array, "cells 3"]:
    """Centers of the R^3 cells of the cube [-extent, extent]^3 (scene units), x slowest."""
    axis = ((2.0 * jnp.arange(resolution, dtype=jnp.float32) + 1.0) / resolution - 1.0) * extent
    return jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def cell_points(noise: Float[Array, "C R R R 3"], bound: float) -> Float[jax.Array, "C R R R 3"]:
    """One random point in every cell of every cascade.

    Args:
      noise: uniform in [0, 1); 0.5 gives the centers.
      bound: the last cascade spans [-bound, bound]^3.

    Raises:
      ValueError: wrong shape.
    """
    cascades, resolution = noise.shape[0] if noise.ndim else 0, noise.shape[-2] if noise.ndim > 1 else 0
    if noise.shape != (cascades, resolution, resolution, resolution, 3):
        raise ValueError(f"noise must be [C, R, R, R, 3], got shape {noise.shape}")
    points = []
    for cascade in range(cascades):
        extent = cascade_extent(cascade, bound)
        centers = cell_centers(resolution, extent).reshape(noise.shape[1:])
        points.append(centers + (2.0 * noise[cascade] - 1.0) * (extent / resolution))
    return jnp.stack(points)


# -------- Running maximum of density, and the threshold above which a cell is occupied


def dilate(grid: Float[Array, "*C R R R"]) -> Float[jax.Array, "*C R R R"]:
    """Maximum of each cell and its six face neighbors; cascades are independent of each other.

    Raises:
      ValueError: fewer than three axes.
    """
    if grid.ndim < 3:
        raise ValueError(f"grid must be [..., R, R, R], got shape {grid.shape}")
    padded = jnp.pad(grid, [(0, 0)] * (grid.ndim - 3) + [(1, 1)] * 3, constant_values=-jnp.inf)
    largest = jnp.asarray(grid)
    for axis in range(3):
        for side in (slice(0, -2), slice(2, None)):
            index = [slice(1, -1)] * 3
            index[axis] = side
            largest = jnp.maximum(largest, padded[(..., *index)])
    return largest


def update_density(grid: Float[Array, "*C R R R"], density: Float[Array, "*C R R R"], decay: float = 0.95) -> Float[jax.Array, "*C R R R"]:
    """One update of the running maximum: max(grid * decay, dilated density).

    A cell that no camera has seen (negative) keeps its value, and so does a cell whose new density is negative or NaN.

    Args:
      grid: running densities.
      density: densities sampled at one point per cell.
      decay: factor per update.

    Raises:
      ValueError: the shapes differ or have fewer than three axes.
    """
    if grid.shape != density.shape:
        raise ValueError(f"density must have the shape of grid, {grid.shape}, got {density.shape}")
    dilated = dilate(density)
    return jnp.where((grid >= 0) & (dilated >= 0), jnp.maximum(grid * decay, dilated), grid)


def mean_density(grid: Float[Array, "*C R R R"]) -> Float[jax.Array, ""]:
    """Mean over all cells of all cascades; unseen cells count as 0."""
    return jnp.mean(jnp.maximum(grid, 0.0))


def occupancy_threshold(grid: Float[Array, "*C R R R"], limit: float) -> Float[jax.Array, ""]:
    """The mean density, at most `limit`."""
    return jnp.minimum(mean_density(grid), limit)


def occupied(grid: Float[Array, "*C R R R"], limit: float) -> Bool[jax.Array, "*C R R R"]:
    """Cells strictly denser than the threshold; unseen cells (negative) never are.

    Args:
      grid: running densities of all cascades, which share one threshold.
      limit: highest threshold (10 in the original).
    """
    return jnp.asarray(grid) > occupancy_threshold(grid, limit)


# -------- Cells as bits


def pack_cells(occupied: Bool[Array, "R R R"]) -> Integer[jax.Array, "R R Z"]:
    """Bits of cells, uint32: bit b of word z is the cell 32 z + b along the last axis. An eighth of the memory.

    Raises:
      ValueError: not a cube, or its side is not a multiple of 32.
    """
    side = occupied.shape[-1] if occupied.ndim == 3 else 0
    if occupied.shape != (side, side, side) or side % 32 or not side:
        raise ValueError(f"occupied must be [R, R, R] with R a multiple of 32, got {occupied.shape}")
    bits = jnp.asarray(occupied, jnp.uint32).reshape(side, side, side // 32, 32)
    return jnp.sum(bits << jnp.arange(32, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32)


def unpack_cells(bits: Integer[Array, "R R Z"]) -> Bool[jax.Array, "R R R"]:
    """The inverse of `pack_cells`."""
    cells = (jnp.asarray(bits)[..., None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return cells.astype(bool).reshape(*bits.shape[:2], -1)


# -------- The original's storage: Morton order (z-order curve) and bit fields

MAX_COORDINATE = 1023
"""Ten bits per coordinate fit an int32."""

# (shift, mask): each step doubles the gap between groups of bits, until two zeros separate any two bits.
_SPREAD = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))


def morton_encode(coords: Integer[Array, "*batch 3"]) -> Int32[jax.Array, "*batch"]:
    """Morton index of cells: bit b of x, y, z becomes bit 3b, 3b + 1, 3b + 2.

    Args:
      coords: 0 to `MAX_COORDINATE`; higher bits are dropped.

    Raises:
      ValueError: `coords` does not end in three coordinates or is not of integers.
    """
    coords = jnp.asarray(coords)
    if coords.ndim == 0 or coords.shape[-1] != 3 or not jnp.issubdtype(coords.dtype, jnp.integer):
        raise ValueError(f"coords must be integers of shape [..., 3], got {coords.dtype} of shape {coords.shape}")
    bits = coords.astype(jnp.int32) & MAX_COORDINATE
    for shift, mask in _SPREAD:
        bits = (bits | bits << shift) & mask
    return bits[..., 0] | bits[..., 1] << 1 | bits[..., 2] << 2


def from_morton_order(grid: Shaped[Array, "C cells"]) -> Shaped[jax.Array, "C R R R"]:
    """From the original's [C, R^3] along the curve to [C, R, R, R], x slowest.

    Raises:
      ValueError: wrong shape, or not a cube whose side is a power of two up to 1024.
    """
    if grid.ndim != 2:
        raise ValueError(f"grid must be [C, R^3], got shape {grid.shape}")
    resolution = round(grid.shape[1] ** (1.0 / 3.0))
    if resolution**3 != grid.shape[1]:
        raise ValueError(f"grid must be [C, R^3], got shape {grid.shape}, where {grid.shape[1]} is no cube")
    check_morton_resolution(resolution)
    axis = jnp.arange(resolution, dtype=jnp.int32)
    return jnp.asarray(grid)[:, morton_encode(jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1))]


def check_morton_resolution(resolution: int) -> None:
    """Raises ValueError unless the curve visits a cube of that side without gaps."""
    if not 0 < resolution <= MAX_COORDINATE + 1 or resolution & (resolution - 1):
        raise ValueError(f"grid must have a side that is a power of two up to {MAX_COORDINATE + 1}, got {resolution}")


def unpack_bits(bits: UInt8[Array, " bytes"]) -> Bool[jax.Array, " cells"]:
    """Cells of a bit field, eight per byte, least significant bit first.

    Raises:
      ValueError: `bits` is not a flat uint8 array.
    """
    bits = jnp.asarray(bits)
    if bits.ndim != 1 or bits.dtype != jnp.uint8:
        raise ValueError(f"bits must be uint8 of shape [cells / 8], got {bits.dtype} of shape {bits.shape}")
    return jnp.unpackbits(bits, bitorder="little").astype(bool)
