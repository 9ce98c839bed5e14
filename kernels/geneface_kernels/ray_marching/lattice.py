"""The lattice a ray is sampled on when the step is constant and there is one cascade.

The marcher skips empty cells by whole steps, so in this case (RAD-NeRF's default configuration) its samples lie on the lattice
near + (k + noise) * step, and every lattice point in an occupied cell is a sample. Who wants one bit a lattice point can therefore test
all of them at once.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Sample positions of a constant step (static).

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
