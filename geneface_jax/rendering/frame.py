"""Rendering a whole frame: every ray stops by itself, and no work is done for rays that have.

The schedule is per ray (a ray's colour never depends on its neighbours, unlike the original's global step count): rounds of a few
samples; after each round the rays still alive are packed together and worked off in blocks, a loop whose length follows the number of
live rays. Shapes stay static, so a video compiles once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from geneface_kernels.ray_box import near_far_from_aabb
from geneface_kernels.ray_marching import first_occupied, lattice_occupancy

from geneface_jax.models.head import FieldSample
from geneface_jax.rendering.settings import MarchSettings

BLOCK = 2048
"""Rays worked on at once; sets the memory of a frame, not its result."""
ROUND = 4
"""Samples per ray between two looks at which rays are still alive."""


class FrameRender(NamedTuple):
    """rgb [N, 3] before the background, alpha [N], depth [N] (sum of weight * t), samples [] evaluated."""

    rgb: jax.Array
    alpha: jax.Array
    depth: jax.Array
    samples: jax.Array


def render_rays(
    field: Callable[[jax.Array, jax.Array], FieldSample],
    rays_o: jax.Array,
    rays_d: jax.Array,
    occupied: jax.Array,
    settings: MarchSettings,
    end_threshold: jax.Array | float,
) -> FrameRender:
    """Renders N rays of one frame without jitter.

    Args:
      field: (points [M, 3], directions [M, 3]) -> FieldSample.
      rays_o, rays_d: [N, 3].
      occupied: [X, X, X] bool.
      settings: static.
      end_threshold: a ray ends when its transmittance falls below this.
    """
    n = rays_o.shape[0]
    padded = -(-n // BLOCK) * BLOCK
    # One spare ray at the end takes the writes of unused places in a block.
    o = jnp.pad(rays_o, ((0, padded + 1 - n), (0, 0)))
    d = jnp.pad(rays_d, ((0, padded + 1 - n), (0, 0)), constant_values=1.0)
    valid = jnp.arange(padded + 1) < n
    near, far = near_far_from_aabb(o, d, jnp.asarray(settings.aabb, jnp.float32), settings.min_near)
    far = jnp.where(valid, far, near)
    steps, counts = _sample_steps(o, d, near, far, occupied, settings)

    slots = -(-settings.max_samples // ROUND) * ROUND
    steps = jnp.pad(steps, ((0, 0), (0, slots - settings.max_samples)))
    lattice = settings.lattice

    def body(carry):
        first, rgb, transmittance, depth, samples = carry
        alive = (counts > first) & (transmittance >= end_threshold)
        order = jnp.nonzero(alive, size=padded, fill_value=padded)[0]
        live = jnp.sum(alive)

        def block(i, arrays):
            rgb, transmittance, depth = arrays
            ray = jax.lax.dynamic_slice_in_dim(order, i * BLOCK, BLOCK)
            k = jax.lax.dynamic_slice_in_dim(steps[ray], first, ROUND, axis=1)
            used = first + jnp.arange(ROUND) < counts[ray][:, None]
            t = near[ray][:, None] + k * lattice.step
            directions = jnp.broadcast_to(d[ray][:, None], (BLOCK, ROUND, 3))
            points = jnp.clip(o[ray][:, None] + directions * jnp.where(used, t, 0.0)[..., None], -lattice.bound, lattice.bound)
            sample = field(points.reshape(-1, 3), directions.reshape(-1, 3))
            optical = jnp.where(used, sample.sigma.reshape(BLOCK, ROUND), 0.0) * lattice.step
            before = transmittance[ray][:, None] * jnp.exp(-(jnp.cumsum(optical, axis=1) - optical))
            visited = before >= end_threshold
            weight = jnp.where(visited, before * -jnp.expm1(-optical), 0.0)
            left = transmittance[ray] * jnp.exp(-jnp.sum(jnp.where(visited, optical, 0.0), axis=1))
            rgb = rgb.at[ray].add(jnp.sum(weight[..., None] * sample.rgb.reshape(BLOCK, ROUND, 3), axis=1))
            return rgb, transmittance.at[ray].set(left), depth.at[ray].add(jnp.sum(weight * jnp.where(used, t, 0.0), axis=1))

        rgb, transmittance, depth = jax.lax.fori_loop(0, -(-live // BLOCK), block, (rgb, transmittance, depth))
        return first + ROUND, rgb, transmittance, depth, samples + jnp.sum(jnp.where(alive, jnp.clip(counts - first, 0, ROUND), 0))

    def alive_any(carry):
        first, _, transmittance, _, _ = carry
        return jnp.any((counts > first) & (transmittance >= end_threshold))

    start = (jnp.int32(0), jnp.zeros((padded + 1, 3)), jnp.ones(padded + 1), jnp.zeros(padded + 1), jnp.int32(0))
    _, rgb, transmittance, depth, samples = jax.lax.while_loop(alive_any, body, start)
    return FrameRender(rgb[:n], 1.0 - transmittance[:n], depth[:n], samples)


def _sample_steps(o, d, near, far, occupied, settings: MarchSettings) -> tuple[jax.Array, jax.Array]:
    """Lattice points [N, S] and counts [N] of all rays, block by block; blocks that miss the box cost nothing."""
    spare = o.shape[0] - 1

    def block(arrays):
        o, d, near, far = arrays

        def march(_):
            _, hit = lattice_occupancy(o, d, near, far, jnp.zeros_like(near), occupied, settings.lattice)
            return first_occupied(hit, settings.max_samples)

        def nothing(_):
            return jnp.zeros((BLOCK, settings.max_samples), jnp.int32), jnp.zeros(BLOCK, jnp.int32)

        return jax.lax.cond(jnp.any(near < far), march, nothing, None)

    blocks = [a[:spare].reshape(-1, BLOCK, *a.shape[1:]) for a in (o, d, near, far)]
    steps, counts = jax.lax.map(block, tuple(blocks))
    return (
        jnp.pad(steps.reshape(spare, -1), ((0, 1), (0, 0))),
        jnp.pad(counts.reshape(spare), (0, 1)),
    )
