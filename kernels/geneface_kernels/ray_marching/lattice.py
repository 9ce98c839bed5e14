"""The lattice a ray is sampled on, and which of its points lie in occupied cells.

RAD-NeRF's marcher skips empty cells by whole steps, so with a constant step (its default configuration: one cascade, `max_steps` 16) its
samples always lie on the lattice near + (k + noise) * step, and every lattice point in an occupied cell is a sample. Testing all lattice
points at once gives the same samples without a data-dependent loop, which is what XLA wants.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Static marching parameters.

    Attributes:
      step: distance between lattice points in scene units.
      points: K, lattice points tested per ray; choose K * step >= the longest chord through the box that matters (see `points_for`).
      bound: the grid spans [-bound, bound]^3.
    """

    step: float
    points: int
    bound: float = 1.0

    @staticmethod
    def points_for(aabb, step: float, max_angle_degrees: float) -> int:
        """Enough lattice points for chords through the box's thinnest side at up to `max_angle_degrees`, at most its diagonal."""
        sides = [aabb[i + 3] - aabb[i] for i in range(3)]
        chord = min(min(sides) / math.cos(math.radians(max_angle_degrees)), math.sqrt(sum(s * s for s in sides)))
        return math.ceil(chord / step) + 1


def cell_index(points: jax.Array, resolution: int, bound: float) -> jax.Array:
    """Flat index [...] int32 of the grid cell of points [..., 3] (x slowest, z fastest); points outside are clamped to the border cells."""
    cell = jnp.clip((0.5 * (points / bound + 1.0) * resolution).astype(jnp.int32), 0, resolution - 1)
    return (cell[..., 0] * resolution + cell[..., 1]) * resolution + cell[..., 2]


def lattice_occupancy(
    rays_o: jax.Array, rays_d: jax.Array, near: jax.Array, far: jax.Array, noise: jax.Array, occupied: jax.Array, lattice: Lattice
) -> tuple[jax.Array, jax.Array]:
    """Tests every lattice point of every ray.

    Args:
      rays_o, rays_d: [N, 3].
      near, far: [N]; a missed ray has near = far.
      noise: [N] in [0, 1), the jitter of each ray's first point (zeros at inference).
      occupied: [R, R, R] bool.

    Returns:
      ([N] parameter of the first lattice point, [N, K] bool: inside [near, far) and in an occupied cell).
    """
    resolution = occupied.shape[0]
    start = near + noise * lattice.step
    t = start[:, None] + jnp.arange(lattice.points, dtype=jnp.float32) * lattice.step
    inside = t < far[:, None]
    points = rays_o[:, None] + rays_d[:, None] * jnp.where(inside, t, 0.0)[..., None]
    hit = occupied.reshape(-1).at[cell_index(points, resolution, lattice.bound)].get(mode="promise_in_bounds")
    return start, hit & inside
