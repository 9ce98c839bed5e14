"""The samples of a ray as one bit per lattice point.

A frame has many more lattice points than samples. Kept as bits, a ray's samples are two words for up to 64 lattice points, they are made
by one reduction, and "the next sample" is the lowest set bit: no sort, no scatter, and nothing of size rays x lattice points is stored.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.ray_box import near_far_from_aabb
from geneface_kernels.ray_marching import Lattice
from geneface_kernels.ray_marching.lattice import cell_index

WORD = 32


@dataclasses.dataclass(frozen=True)
class FrameMarch:
    """How the rays of a frame are sampled (static).

    Attributes:
      aabb: (min xyz, max xyz) of the box rays are clipped to.
      min_near: closest sample to the camera.
      lattice: sample positions, from where the ray enters the box.
      max_samples: most samples of one ray; further ones are left out.
    """

    aabb: tuple[float, ...]
    min_near: float
    lattice: Lattice
    max_samples: int

    def __post_init__(self) -> None:
        if len(self.aabb) != 6:
            raise ValueError(f"aabb must have 6 numbers, got {len(self.aabb)}")
        if self.max_samples < 1:
            raise ValueError(f"max_samples must be positive, got {self.max_samples}")

    @property
    def words(self) -> int:
        """W, words per ray."""
        return -(-self.lattice.points // WORD)


class MarchedBits(NamedTuple):
    """near [N]: parameter of lattice point 0. bits: [N, W] uint32, bit k of the row: lattice point k is a sample."""

    near: jax.Array
    bits: jax.Array


def march_bits(rays_o: jax.Array, rays_d: jax.Array, occupied: jax.Array, march: FrameMarch) -> MarchedBits:
    """Tests all lattice points of all rays against the occupancy grid, without jitter.

    Args:
      rays_o, rays_d: [N, 3].
      occupied: [R, R, R] bool.
      march: static.
    """
    lattice, resolution = march.lattice, occupied.shape[0]
    near, far = near_far_from_aabb(rays_o, rays_d, jnp.asarray(march.aabb, jnp.float32), march.min_near)
    flat = occupied.reshape(-1)
    # The first point of a ray lies on the box's face, which often is a face between cells too: rounding decides. The product is rounded
    # before it is added, as in the recorded runs of the original; fused, some rays would gain or lose a sample there.
    entry = rays_o + _rounded_product(rays_d, jnp.where(near < far, near, 0.0)[:, None])
    words = []
    for first in range(0, lattice.points, WORD):
        k = np.arange(first, min(first + WORD, lattice.points))
        along = k.astype(np.float32) * np.float32(lattice.step)
        inside = near[:, None] + along < far[:, None]
        points = entry[:, None] + rays_d[:, None] * along[:, None]
        hit = inside & flat.at[cell_index(points, resolution, lattice.bound)].get(mode="promise_in_bounds")
        bit = np.uint32(1) << (k - first).astype(np.uint32)
        words.append(jnp.sum(jnp.where(hit, bit, np.uint32(0)), axis=1, dtype=jnp.uint32))
    return MarchedBits(near, jnp.stack(words, axis=1))


def _rounded_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a * b, which no compiler can fuse with an addition: the bits pass through an operation whose result it can't foresee."""
    product = a * b
    bits = jax.lax.bitcast_convert_type(product, jnp.uint32) ^ jnp.isnan(product).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def sample_counts(bits: jax.Array, max_samples: int) -> jax.Array:
    """[N] int32 samples of each ray, at most `max_samples`."""
    return jnp.minimum(jnp.sum(jax.lax.population_count(bits).astype(jnp.int32), axis=1), max_samples)


def next_samples(bits: jax.Array, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Takes the first `count` samples off every ray.

    Args:
      bits: [N, W] uint32.
      count: how many (static).

    Returns:
      ([N, count] int32 lattice points, 0 where the ray had no more; [N, count] bool, it had one; [N, W] what is left).
    """
    left = [bits[:, w] for w in range(bits.shape[1])]
    steps, found = [], []
    for _ in range(count):
        step, got = jnp.zeros(bits.shape[0], jnp.int32), jnp.zeros(bits.shape[0], bool)
        for w, word in enumerate(left):
            here = (word != 0) & ~got
            lowest = word & (~word + np.uint32(1))
            below = jax.lax.population_count(lowest - np.uint32(1)).astype(jnp.int32)
            step = jnp.where(here, w * WORD + below, step)
            left[w] = jnp.where(here, word ^ lowest, word)
            got |= here
        steps.append(step)
        found.append(got)
    return jnp.stack(steps, axis=1), jnp.stack(found, axis=1), jnp.stack(left, axis=1)
