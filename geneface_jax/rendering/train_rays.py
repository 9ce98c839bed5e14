"""Rendering a group of training rays: march, evaluate the packed samples, composite."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from geneface_kernels.compositing import Composite, composite
from geneface_kernels.ray_box import near_far_from_aabb
from geneface_kernels.ray_marching import lattice_occupancy, pack_samples

from geneface_jax.models.head import FieldSample
from geneface_jax.rendering.settings import MarchSettings

Field = Callable[[jax.Array, jax.Array, jax.Array], FieldSample]
"""(points [M, 3], directions [M, 3], group [M] int32 of each point) -> FieldSample."""


class TrainRender(NamedTuple):
    """Composite of [G * R] rays, which of them are complete ([G * R] bool; the others ran out of budget), and samples evaluated ([]
    int32)."""

    composite: Composite
    complete: jax.Array
    samples: jax.Array


def render_groups(
    field: Field, rays_o: jax.Array, rays_d: jax.Array, noise: jax.Array, occupied: jax.Array, settings: MarchSettings
) -> TrainRender:
    """Renders G groups of R rays, each group with a sample buffer of its own, so that the result does not depend on how groups are spread.

    Args:
      field: evaluates all groups' samples in one call.
      rays_o, rays_d: [G, R, 3].
      noise: [G, R] in [0, 1).
      occupied: [X, X, X] bool.
      settings: static.
    """
    groups, rays = noise.shape
    budget = int(rays * settings.budget)
    lattice = settings.lattice
    aabb = jnp.asarray(settings.aabb, jnp.float32)

    def march(o, d, u):
        near, far = near_far_from_aabb(o, d, aabb, settings.min_near)
        start, hit = lattice_occupancy(o, d, near, far, u, occupied, lattice)
        packed = pack_samples(hit, settings.max_samples, budget)
        return start, packed

    start, packed = jax.vmap(march)(rays_o, rays_d, noise)
    ray = jnp.minimum(packed.ray, rays - 1)
    t = jnp.take_along_axis(start, ray, axis=1) + packed.step * lattice.step
    o, d = (jnp.take_along_axis(a, ray[..., None], axis=1) for a in (rays_o, rays_d))
    points = jnp.clip(o + d * jnp.where(packed.used, t, 0.0)[..., None], -lattice.bound, lattice.bound)
    group = jnp.broadcast_to(jnp.arange(groups)[:, None], ray.shape).reshape(-1)
    sample = field(points.reshape(-1, 3), d.reshape(-1, 3), group)

    # Unused rows go to an extra ray that is cut off again.
    flat_ray = jnp.where(packed.used, jnp.arange(groups)[:, None] * rays + ray, groups * rays).reshape(-1)
    slot = jnp.minimum(packed.slot, settings.max_samples - 1).reshape(-1)

    def slots(values):
        empty = jnp.zeros((groups * rays + 1, settings.max_samples, *values.shape[1:]), values.dtype)
        return empty.at[flat_ray, slot].set(values, mode="promise_in_bounds")[:-1]

    ambient = jnp.sum(jnp.abs(sample.ambient), axis=-1)
    out = composite(slots(sample.sigma), slots(sample.rgb), slots(t.reshape(-1)), lattice.step, slots(ambient))
    return TrainRender(out, packed.complete.reshape(-1), jnp.sum(packed.used))
