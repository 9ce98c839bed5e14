"""Rendering a group of training rays: march, evaluate the packed samples, composite."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from geneface_kernels.compositing import Composite, composite_train
from geneface_kernels.ray_marching import march_rays, pack
from geneface_kernels.ray_marching.geometry import near_far_from_aabb

from geneface_jax.models.head import FieldSample
from geneface_jax.rendering.settings import MarchSettings

Field = Callable[[jax.Array, jax.Array, jax.Array], FieldSample]
"""(points [M, 3], directions [M, 3], group [M] int32 of each point) -> FieldSample."""


class TrainRender(NamedTuple):
    """Composite of [G * R] rays, which of them are complete ([G * R] bool; the others ran out of budget and are empty), and samples
    evaluated ([] int32)."""

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
    marching = settings.marching(occupied.shape[0])
    o, d = rays_o.reshape(-1, 3), rays_d.reshape(-1, 3)
    near, far = near_far_from_aabb(o, d, jnp.asarray(settings.aabb, jnp.float32), settings.min_near)
    t, counts = march_rays(o, d, near, far, noise.reshape(-1), occupied, marching, settings.max_samples)
    pack_group = jax.vmap(lambda o, d, t, counts: pack(o, d, t, counts, marching, budget))
    packed = pack_group(rays_o, rays_d, t.reshape(groups, rays, -1), counts.reshape(groups, rays))
    group = jnp.broadcast_to(jnp.arange(groups)[:, None], packed.ray.shape)
    sample = field(packed.points.reshape(-1, 3), packed.directions.reshape(-1, 3), group.reshape(-1))

    # One flat buffer of all groups: a group's rows begin at its number times the budget. Rays that did not fit have no rows.
    complete = packed.complete.reshape(-1)
    offsets = (packed.offsets + jnp.arange(groups, dtype=jnp.int32)[:, None] * budget).reshape(-1)
    out = composite_train(
        sample.sigma,
        sample.rgb,
        jnp.sum(jnp.abs(sample.ambient), axis=-1),
        packed.deltas.reshape(-1, 2),
        offsets,
        jnp.where(complete, counts, 0),
        max_samples=settings.max_samples,
    )
    # The op's depth is at the end of each step, as the original's; ours is at the sample.
    out = out._replace(depth=out.depth - out.alpha * marching.dt_min)
    return TrainRender(out, complete, jnp.sum(packed.ray < rays))
