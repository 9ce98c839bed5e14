"""Occupancy grids: cell positions, the running maximum of density, thresholds, dilation, and the original's Morton order and bit fields."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# ----------------------------------------------------------------------------------------------------
# Where the cells of a 3D occupancy grid lie, and points in them to ask a field for its density.


def cascade_extent(cascade: int, bound: float) -> float:
    """Half the side of a cascade's cube: 1, 2, 4, ... and the scene's `bound` for the last one."""
    return min(2.0**cascade, bound)


def cell_centers(resolution: int, extent: float) -> jax.Array:
    """Centres of all cells of the cube [-extent, extent]^3.

    Args:
      resolution: R, cells a side.
      extent: half the cube's side, in scene units.

    Returns:
      [R^3, 3] float32, x slowest.
    """
    axis = _axis(resolution, extent)
    return jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def cell_points(noise: jax.Array, bound: float) -> jax.Array:
    """One random point in every cell of every cascade.

    Args:
      noise: [C, R, R, R, 3] in [0, 1), uniform; 0.5 gives the centres.
      bound: the last cascade spans [-bound, bound]^3.

    Returns:
      [C, R, R, R, 3] float32.

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


def _axis(resolution: int, extent: float) -> jax.Array:
    return ((2.0 * jnp.arange(resolution, dtype=jnp.float32) + 1.0) / resolution - 1.0) * extent


# ----------------------------------------------------------------------------------------------------
# The running maximum that an occupancy grid keeps of a density that training changes.


def dilate(grid: jax.Array) -> jax.Array:
    """Each cell becomes the largest of itself and its six face neighbours in the same cube.

    Args:
      grid: [..., R, R, R]; cubes do not touch each other.

    Raises:
      ValueError: fewer than three axes.
    """
    if grid.ndim < 3:
        raise ValueError(f"grid must be [..., R, R, R], got shape {grid.shape}")
    padded = jnp.pad(grid, [(0, 0)] * (grid.ndim - 3) + [(1, 1)] * 3, constant_values=-jnp.inf)
    largest = grid
    for axis in range(3):
        for side in (slice(0, -2), slice(2, None)):
            index = [slice(1, -1)] * 3
            index[axis] = side
            largest = jnp.maximum(largest, padded[(..., *index)])
    return largest


def update_density(grid: jax.Array, density: jax.Array, decay: float = 0.95) -> jax.Array:
    """One update: fresh densities are dilated and folded into the decayed running maximum.

    A cell that no camera has seen (negative) stays as it is, and so does a cell whose fresh density is negative.

    Args:
      grid: [..., R, R, R] running densities.
      density: [..., R, R, R] fresh densities, one point a cell.
      decay: factor per update.

    Returns:
      [..., R, R, R].

    Raises:
      ValueError: the shapes differ or have fewer than three axes.
    """
    if grid.shape != density.shape:
        raise ValueError(f"density must have the shape of grid, {grid.shape}, got {density.shape}")
    fresh = dilate(density)
    return jnp.where((grid >= 0) & (fresh >= 0), jnp.maximum(grid * decay, fresh), grid)


def mean_density(grid: jax.Array) -> jax.Array:
    """Scalar mean over all cells of all cascades; unseen cells count as 0."""
    return jnp.mean(jnp.maximum(grid, 0.0))


def occupancy_threshold(grid: jax.Array, limit: float) -> jax.Array:
    """Scalar: the mean density, or `limit` where the mean is higher."""
    return jnp.minimum(mean_density(grid), limit)


def occupied(grid: jax.Array, limit: float) -> jax.Array:
    """Bool of the shape of `grid`: strictly denser than the threshold, so unseen cells never are.

    Args:
      grid: [R, R, R] or [C, R, R, R] running densities, all cascades together, because they share one threshold.
      limit: highest threshold (10 in the original).
    """
    return grid > occupancy_threshold(grid, limit)


# ----------------------------------------------------------------------------------------------------
# Morton (z-order) indices: the bits of three coordinates interleaved, x lowest.

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


# ----------------------------------------------------------------------------------------------------
# One bit a cell, eight cells a byte, least significant bit first.


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
