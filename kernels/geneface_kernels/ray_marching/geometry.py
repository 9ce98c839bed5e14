"""Geometry of ray marching: ray-box intersection, `MarchConfig`, the lattice of sample positions, occupancy lookups."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.typing import Array, Float, Float32, Int32

# -------- Ray-box intersection: the slab test (Kay and Kajiya 1986)

FAR_AWAY = jnp.finfo(jnp.float32).max
"""Both ends of a ray that misses the box."""


def near_far_from_aabb(
    rays_o: Float[Array, "N 3"], rays_d: Float[Array, "N 3"], aabb: Float[Array, " 6"], min_near: float | Float[Array, ""]
) -> tuple[Float[jax.Array, " N"], Float[jax.Array, " N"]]:
    """Ray parameters at which rays enter and leave a box; not differentiable, as in the original.

    Args:
      rays_o, rays_d: origins and directions (any length; the results are in units of it). Zero components of a direction are allowed. A
        ray that lies exactly in the plane of a face counts as a miss.
      aabb: (min xyz, max xyz).
      min_near: lower limit of the near ends.

    Returns:
      (near, far); `FAR_AWAY` in both for a missed box. A box behind the camera is not a miss: it has far < near.

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


def check_rays(rays_o: Array, rays_d: Array) -> None:
    """Raises ValueError unless both are [N, 3] of one N."""
    shapes = jnp.shape(rays_o), jnp.shape(rays_d)
    if len(shapes[0]) != 2 or shapes[0][1] != 3 or shapes[0] != shapes[1]:
        raise ValueError(f"rays_o and rays_d must both be [N, 3], got shapes {shapes[0]} and {shapes[1]}")


# -------- The march: configuration, step lengths and occupancy cells, shared by all implementations
#
# The march visits the lattice points t_0, t_1 = t_0 + step(t_0), ...; empty space is skipped by whole steps, so the occupancy grid decides
# which lattice points are samples but not where they lie. A march is therefore one loop over lattice points with two values per ray: the
# parameter until which it skips, and the number of samples found.
#
# x, y and z are separate arrays of one shape, because a Triton kernel can't split vectors of three.

SQRT_3 = np.float32(1.7320508)

Components = tuple[jax.Array, ...]
"""x, y and z, arrays of one shape."""


@dataclasses.dataclass(frozen=True)
class MarchConfig:
    """Static marching parameters (RAD-NeRF's names: H is `resolution`).

    Attributes:
      bound: the scene is [-bound, bound]^3; samples are clamped to it.
      resolution: R, cells per side of the occupancy grid of each cascade.
      cascades: C, nested grids; cascade c spans [-2^c, 2^c]^3, the last one at most the scene.
      dt_gamma: growth of the step with the distance (cone tracing); 0 for none, 1/256 in RAD-NeRF.
      max_steps: S, most samples of one ray. It also sets the shortest step, 2 sqrt(3) / max_steps.
      fixed_step: constant step in scene units; None derives the step from the other fields.
    """

    bound: float = 1.0
    resolution: int = 128
    cascades: int = 1
    dt_gamma: float = 0.0
    max_steps: int = 16
    fixed_step: float | None = None

    def __post_init__(self) -> None:
        for name in ("resolution", "cascades", "max_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} of MarchConfig must be a whole number of at least 1, got {value!r}")
        if not 0 < self.bound < np.inf:
            raise ValueError(f"bound of MarchConfig must be positive and finite, got {self.bound!r}")
        if not 0 <= self.dt_gamma < np.inf:
            raise ValueError(f"dt_gamma of MarchConfig must be 0 or more, got {self.dt_gamma!r}")
        if self.fixed_step is not None and not 0 < self.fixed_step < np.inf:
            raise ValueError(f"fixed_step of MarchConfig must be positive and finite, got {self.fixed_step!r}")
        if self.cascades * self.resolution**3 >= 2**31:
            raise ValueError(f"cascades * resolution^3 of MarchConfig must be below 2^31, got {self.cascades} * {self.resolution}^3")

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
        """Whether all steps have the same length, whatever the distance."""
        return self.dt_gamma == 0.0 or self.dt_min == self.dt_max

    @property
    def grid_shape(self) -> tuple[int, int, int, int]:
        """[C, R, R, R] of the occupancy grid."""
        return (self.cascades, self.resolution, self.resolution, self.resolution)


class Rays(NamedTuple):
    """Origins and directions by component, and 1 / direction (infinite along an axis the ray is parallel to)."""

    origin: Components
    direction: Components
    inverse: Components


def step_length(t: Float[Array, "*batch"], config: MarchConfig) -> Float[jax.Array, "*batch"]:
    """Length of the step that starts at `t`."""
    if config.constant_step:
        return jnp.full_like(t, config.dt_min)
    return clamp(t * config.dt_gamma, config.dt_min, config.dt_max)


def clamp(value: Float[Array, "*batch"], low: float, high: float) -> Float[jax.Array, "*batch"]:
    """C's fmin(high, fmax(low, value)): NaN becomes `low`, so that an index computed from it stays inside the grid."""
    return jnp.fmin(high, jnp.fmax(low, value))


def point_at(rays: Rays, t: jax.Array, config: MarchConfig) -> Components:
    """Components of origin + t * direction, clamped to the scene."""
    return tuple(clamp(o + t * d, -config.bound, config.bound) for o, d in zip(rays.origin, rays.direction, strict=True))


def cell_at(rays: Rays, t: Float[jax.Array, " N"], config: MarchConfig) -> tuple[Int32[jax.Array, " N"], Float[jax.Array, " N"]]:
    """The occupancy cell at `t`, and where the ray leaves it.

    Returns:
      (index into the flattened [C, R, R, R] grid, ray parameter of the exit; never before `t`).
    """
    point = point_at(rays, t, config)
    half, level = cascade_at(point, t, config)
    inverse_half = 1.0 / half
    resolution = config.resolution
    index, exit_distance = level, None
    for p, inverse in zip(point, rays.inverse, strict=True):
        cell = clamp(0.5 * (p * inverse_half + 1.0) * resolution, 0.0, resolution - 1.0).astype(jnp.int32)
        index = index * resolution + cell
        # The face ahead. The sign is that of the reciprocal, which distinguishes +0 from -0 (copysign in the original).
        face = cell.astype(jnp.float32) + jnp.where(inverse >= 0.0, 1.0, 0.0)
        distance = ((face * (1.0 / resolution) * 2.0 - 1.0) * half - p) * inverse
        # 0 * inf, for a ray in the plane of a face, is NaN, which fmin ignores.
        exit_distance = distance if exit_distance is None else jnp.fmin(exit_distance, distance)
    assert exit_distance is not None
    return index, t + jnp.fmax(exit_distance, 0.0)


def cascade_at(point: Components, t: Float[jax.Array, " N"], config: MarchConfig) -> tuple[Float[jax.Array, " N"], Int32[jax.Array, " N"]]:
    """(half extent, number) of the finest cascade that holds the point and whose cells are not much smaller than the step.

    Cascade c holds points with 2^(c-1) <= max |coordinate| < 2^c; a step of dt counts as a coordinate of dt * R / 2.
    """
    half = jnp.full_like(t, min(1.0, config.bound))
    level = jnp.zeros(t.shape, jnp.int32)
    if config.cascades == 1:
        return half, level
    reach = step_length(t, config) * (0.5 * config.resolution)
    for p in point:
        reach = jnp.fmax(reach, jnp.abs(p))
    for coarser in range(1, config.cascades):
        outside = reach >= 2.0 ** (coarser - 1)
        half = jnp.where(outside, min(2.0**coarser, config.bound), half)
        level = level + outside.astype(jnp.int32)
    return half, level


# -------- The lattice of sample positions for a constant step and one cascade (RAD-NeRF's default configuration)


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Sample positions of a constant step (static).

    All samples lie on the lattice near + (k + noise) * step, and every lattice point in an occupied cell is a sample. A sample bitmask can
    therefore be computed for all lattice points at once.

    Attributes:
      step: distance between lattice points in scene units.
      points: K, lattice points per ray; K * step should cover the longest chord through the box (see `points_for`).
      bound: the grid spans [-bound, bound]^3.
    """

    step: float
    points: int
    bound: float = 1.0

    @staticmethod
    def points_for(aabb: Sequence[float], step: float, max_angle_degrees: float) -> int:
        """Enough lattice points for chords through the box's thinnest side at up to `max_angle_degrees`, at most its diagonal."""
        sides = [aabb[i + 3] - aabb[i] for i in range(3)]
        chord = min(min(sides) / math.cos(math.radians(max_angle_degrees)), math.sqrt(sum(s * s for s in sides)))
        return math.ceil(chord / step) + 1


def cell_index(points: Float32[jax.Array, "*batch 3"], resolution: int, bound: float) -> Int32[jax.Array, "*batch"]:
    """Index into the flattened grid (x slowest, z fastest) of the cell of each point; points outside use the border cells."""
    cell = jnp.clip((0.5 * (points / bound + 1.0) * resolution).astype(jnp.int32), 0, resolution - 1)
    return (cell[..., 0] * resolution + cell[..., 1]) * resolution + cell[..., 2]
