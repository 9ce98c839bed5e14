"""Geometry of ray marching: ray-box intersection, `MarchConfig`, the lattice of sample positions, occupancy lookups."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# ----------------------------------------------------------------------------------------------------
# The slab test (Kay and Kajiya 1986).

FAR_AWAY = jnp.finfo(jnp.float32).max
"""Both ends of a ray that misses the box."""


def near_far_from_aabb(rays_o: jax.Array, rays_d: jax.Array, aabb: jax.Array, min_near: float) -> tuple[jax.Array, jax.Array]:
    """Ray parameters at which rays enter and leave a box. No gradient flows back, as in the original.

    Args:
      rays_o, rays_d: [N, 3] origins and directions (any length; the results are in units of it). Zero components of a direction are
        allowed. A ray that lies exactly in the plane of a face counts as a miss.
      aabb: [6] (min xyz, max xyz).
      min_near: nears are clamped to at least this.

    Returns:
      ([N] near, [N] far); `FAR_AWAY` in both for a missed box. A box behind the camera is no miss: it has far < near.

    Raises:
      ValueError: wrong shapes.
    """
    check_rays(rays_o, rays_d)
    if jnp.shape(aabb) != (6,):
        raise ValueError(f"aabb must be [6] (min xyz, max xyz), got shape {jnp.shape(aabb)}")
    rays_o, rays_d, aabb = (jax.lax.stop_gradient(jnp.asarray(array)) for array in (rays_o, rays_d, aabb))
    inverse = 1.0 / rays_d
    a, b = (aabb[:3] - rays_o) * inverse, (aabb[3:] - rays_o) * inverse
    # 0 * inf is NaN, for a ray in the plane of a face: fmin and fmax take the other value, so that no NaN leaves this function.
    low, high = jnp.fmin(a, b), jnp.fmax(a, b)
    near, far = low.max(axis=-1), high.min(axis=-1)
    miss = near > far
    return jnp.where(miss, FAR_AWAY, jnp.maximum(near, min_near)), jnp.where(miss, FAR_AWAY, far)


def check_rays(rays_o: jax.Array, rays_d: jax.Array) -> None:
    """Raises ValueError unless both are [N, 3] of one N."""
    shapes = jnp.shape(rays_o), jnp.shape(rays_d)
    if len(shapes[0]) != 2 or shapes[0][1] != 3 or shapes[0] != shapes[1]:
        raise ValueError(f"rays_o and rays_d must both be [N, 3], got shapes {shapes[0]} and {shapes[1]}")


# ----------------------------------------------------------------------------------------------------
# What a ray is marched with, and the arithmetic of one lattice point, shared by all implementations.
#
# The march visits t_0, t_1 = t_0 + step(t_0), ...; which of these points are samples depends on the occupancy grid, the points themselves
# do not: empty space is skipped by whole steps. So a march is one loop over lattice points with two things remembered per ray, the
# parameter until which it skips and the number of samples found.
#
# Everything here works on separate x, y and z arrays of one shape, because a Triton kernel can't take vectors of three apart.

SQRT_3 = np.float32(1.7320508)


@dataclasses.dataclass(frozen=True)
class MarchConfig:
    """Static marching parameters (RAD-NeRF's names: H is `resolution`).

    Attributes:
      bound: the scene is [-bound, bound]^3; samples are clamped to it.
      resolution: R, cells per side of the occupancy grid of each cascade.
      cascades: C, nested grids; cascade c spans [-2^c, 2^c]^3, the last one at most the scene.
      dt_gamma: growth of the step with the distance (cone tracing); 0 for none. 1/256 in RAD-NeRF.
      max_steps: S, most samples of one ray. It also sets the shortest step, 2 sqrt(3) / max_steps.
      fixed_step: a constant step in scene units instead of the one that follows from the other fields.
    """

    bound: float = 1.0
    resolution: int = 128
    cascades: int = 1
    dt_gamma: float = 0.0
    max_steps: int = 16
    fixed_step: float | None = None

    def __post_init__(self):
        for name in ("resolution", "cascades", "max_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} of Marching must be a whole number of at least 1, got {value!r}")
        if not 0 < self.bound < np.inf:
            raise ValueError(f"bound of Marching must be positive and finite, got {self.bound!r}")
        if not 0 <= self.dt_gamma < np.inf:
            raise ValueError(f"dt_gamma of Marching must be 0 or more, got {self.dt_gamma!r}")
        if self.fixed_step is not None and not 0 < self.fixed_step < np.inf:
            raise ValueError(f"fixed_step of Marching must be positive and finite, got {self.fixed_step!r}")
        if self.cascades * self.resolution**3 >= 2**31:
            raise ValueError(f"cascades * resolution^3 of Marching must be below 2^31, got {self.cascades} * {self.resolution}^3")

    @property
    def dt_max(self) -> float:
        """Longest step: a cell's diagonal in the outermost cascade."""
        if self.fixed_step is not None:
            return float(np.float32(self.fixed_step))
        return float(np.float32(2) * SQRT_3 * np.float32(2.0 ** (self.cascades - 1)) / np.float32(self.resolution))

    @property
    def dt_min(self) -> float:
        """Shortest step."""
        if self.fixed_step is not None:
            return self.dt_max
        return min(self.dt_max, float(np.float32(2) * SQRT_3 / np.float32(self.max_steps)))

    @property
    def constant_step(self) -> bool:
        """Whether every step has the same length, whatever the distance."""
        return self.dt_gamma == 0.0 or self.dt_min == self.dt_max

    @property
    def grid_shape(self) -> tuple[int, int, int, int]:
        """[C, R, R, R] of the occupancy grid."""
        return (self.cascades, *(self.resolution,) * 3)


class Rays(NamedTuple):
    """Origins and directions by component, and 1 / direction (infinite along an axis the ray is parallel to)."""

    origin: tuple[jax.Array, jax.Array, jax.Array]
    direction: tuple[jax.Array, jax.Array, jax.Array]
    inverse: tuple[jax.Array, jax.Array, jax.Array]


def step_length(t: jax.Array, marching: MarchConfig) -> jax.Array:
    """Length of the step that starts at `t`."""
    if marching.constant_step:
        return jnp.full_like(t, marching.dt_min)
    return clamp(t * marching.dt_gamma, marching.dt_min, marching.dt_max)


def clamp(value: jax.Array, low: float, high: float) -> jax.Array:
    """C's fmin(high, fmax(low, value)): NaN becomes `low`, so that no index made from it leaves the grid."""
    return jnp.fmin(high, jnp.fmax(low, value))


def point_at(rays: Rays, t: jax.Array, marching: MarchConfig) -> tuple[jax.Array, ...]:
    """Components of origin + t * direction, clamped to the scene."""
    return tuple(clamp(o + t * d, -marching.bound, marching.bound) for o, d in zip(rays.origin, rays.direction, strict=True))


def cell_at(rays: Rays, t: jax.Array, marching: MarchConfig) -> tuple[jax.Array, jax.Array]:
    """The occupancy cell at `t`, and where the ray leaves it.

    The cascade is the finest one that holds the point and whose cells are not much smaller than the step.

    Returns:
      (int32 index into the flat [C * R^3] grid, parameter of the exit; never before `t`).
    """
    point = point_at(rays, t, marching)
    half, level = cascade_at(point, t, marching)
    inverse_half = 1.0 / half
    resolution = marching.resolution
    index, exit_distance = level, None
    for p, inverse in zip(point, rays.inverse, strict=True):
        cell = clamp(0.5 * (p * inverse_half + 1.0) * resolution, 0.0, resolution - 1.0).astype(jnp.int32)
        index = index * resolution + cell
        # The face ahead. The sign is read from the reciprocal, which tells +0 from -0 (copysign in the original).
        face = cell.astype(jnp.float32) + jnp.where(inverse >= 0.0, 1.0, 0.0)
        distance = ((face * (1.0 / resolution) * 2.0 - 1.0) * half - p) * inverse
        # 0 * inf of a ray inside the plane of a face is NaN, which fmin drops.
        exit_distance = distance if exit_distance is None else jnp.fmin(exit_distance, distance)
    return index, t + jnp.fmax(exit_distance, 0.0)


def cascade_at(point: tuple[jax.Array, ...], t: jax.Array, marching: MarchConfig) -> tuple[jax.Array, jax.Array]:
    """(half extent, number) of the cascade that is looked at: the finest that holds the point, coarser where steps are longer than cells.

    Cascade c holds points with 2^(c-1) <= max |coordinate| < 2^c; a step of dt is treated like a coordinate of dt * R / 2.
    """
    half = jnp.full_like(t, min(1.0, marching.bound))
    level = jnp.zeros(t.shape, jnp.int32)
    if marching.cascades == 1:
        return half, level
    reach = step_length(t, marching) * (0.5 * marching.resolution)
    for p in point:
        reach = jnp.fmax(reach, jnp.abs(p))
    for coarser in range(1, marching.cascades):
        outside = reach >= 2.0 ** (coarser - 1)
        half = jnp.where(outside, min(2.0**coarser, marching.bound), half)
        level = level + outside.astype(jnp.int32)
    return half, level


# ----------------------------------------------------------------------------------------------------
# The lattice a ray is sampled on when the step is constant and there is one cascade.
#
# The marcher skips empty cells by whole steps, so in this case (RAD-NeRF's default configuration) its samples lie on the lattice
# near + (k + noise) * step, and every lattice point in an occupied cell is a sample. Who wants one bit a lattice point can therefore test
# all of them at once.


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
