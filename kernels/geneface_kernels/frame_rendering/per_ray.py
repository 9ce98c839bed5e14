"""Frame rendering whose work follows the number of live rays: best on a CPU.

Every ray stops by itself, so a ray's colour never depends on its neighbours (in the original it does: see `reference.py`). Rounds of a few
samples each; a list of the rays still alive is worked off in blocks, and each block packs its survivors back to the front of the same
list. All frames of a batch share the list. Shapes are static, so a video compiles once.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geneface_kernels.frame_rendering.march import FrameMarch, march_bits, next_samples
from geneface_kernels.frame_rendering.result import Field, FrameRender, as_batch

BLOCK = 2048
"""Rays worked on at once; sets the memory of a frame, not its result."""
ROUND = 4
"""Samples per ray between two looks at which rays are still alive."""


class _State(NamedTuple):
    """What changes from round to round. The arrays of rays have a spare row at the end, which unused places of a block work on.

    Attributes:
      bits: [P + 1, W] samples still to come.
      light: [P + 1, 5] rgb, transmittance, depth so far.
      listed: [P] int32 rays still alive.
      live: [] int32, how many of `listed` count.
      samples: [] int32 evaluated so far.
    """

    bits: jax.Array
    light: jax.Array
    listed: jax.Array
    live: jax.Array
    samples: jax.Array


def render_per_ray(
    field: Field,
    rays_o: jax.Array,
    rays_d: jax.Array,
    occupied: jax.Array,
    march: FrameMarch,
    end_threshold: jax.Array | float,
    *,
    block: int = BLOCK,
    round_samples: int = ROUND,
) -> FrameRender:
    """Renders the rays of one frame, or of a batch of frames, without jitter.

    Args:
      field: see `Field`.
      rays_o, rays_d: [N, 3], or [F, N, 3] for F frames.
      occupied: [R, R, R] bool, the same for all frames.
      march: static.
      end_threshold: a ray ends when its transmittance falls below this; the sample that takes it there still counts.
      block: rays worked on at once (static).
      round_samples: samples per ray and round (static).

    Returns:
      See `FrameRender`; every ray is complete.

    Raises:
      ValueError: an argument has a wrong shape, or a size that is not positive.
    """
    if block < 1 or round_samples < 1:
        raise ValueError(f"block and round_samples must be positive, got {block} and {round_samples}")
    o, d = as_batch(rays_o, rays_d, occupied)
    shape = rays_o.shape[:-1]
    per_frame = o.shape[1]
    o, d = o.reshape(-1, 3), d.reshape(-1, 3)
    n = o.shape[0]
    padded = -(-n // block) * block
    # The padding looks away from the box from outside of it, and so has no samples.
    o = jnp.pad(o, ((0, padded + 1 - n), (0, 0)), constant_values=2.0 * max(abs(side) for side in march.aabb))
    d = jnp.pad(d, ((0, padded + 1 - n), (0, 0)), constant_values=1.0)
    near, state = _march(o, d, occupied, march, block)

    def one_block(i: jax.Array, state: _State, live: jax.Array, first: jax.Array) -> _State:
        ray = jax.lax.dynamic_slice_in_dim(state.listed, i * block, block)
        ray = jnp.where(i * block + jnp.arange(block) < live, ray, padded)
        steps, found, left = next_samples(state.bits[ray], round_samples)
        used = found & (first + jnp.arange(round_samples) < march.max_samples)
        t = jnp.where(used, near[ray][:, None] + steps * march.lattice.step, 0.0)
        directions = jnp.broadcast_to(d[ray][:, None], (block, round_samples, 3))
        points = jnp.clip(o[ray][:, None] + directions * t[..., None], -march.lattice.bound, march.lattice.bound)
        frame = jnp.broadcast_to((ray // per_frame)[:, None], t.shape)
        sigma, rgb = field(points.reshape(-1, 3), directions.reshape(-1, 3), frame.reshape(-1))
        optical = jnp.where(used, sigma.reshape(used.shape), 0.0) * march.lattice.step
        light = _composite(state.light[ray], optical, rgb.reshape(*used.shape, 3), t, end_threshold)
        alive = jnp.any(left != 0, axis=1) & (light[:, 3] >= end_threshold) & (first + round_samples < march.max_samples)
        listed, kept = _append(state.listed, state.live, ray, alive)
        return _State(state.bits.at[ray].set(left), state.light.at[ray].set(light), listed, kept, state.samples + jnp.sum(used))

    def one_round(carry: tuple[jax.Array, _State]) -> tuple[jax.Array, _State]:
        first, state = carry
        shade = functools.partial(one_block, live=state.live, first=first)
        after = jax.lax.fori_loop(0, -(-state.live // block), shade, state._replace(live=jnp.int32(0)))
        return first + round_samples, after

    _, state = jax.lax.while_loop(lambda carry: carry[1].live > 0, one_round, (jnp.int32(0), state))
    rgb, transmittance, depth = jnp.split(state.light[:n], (3, 4), axis=1)
    return FrameRender(
        rgb=rgb.reshape(*shape, 3),
        alpha=1.0 - transmittance.reshape(shape),
        depth=depth.reshape(shape),
        samples=state.samples,
        complete=jnp.ones(shape, bool),
        dropped=jnp.int32(0),
    )


def _march(o: jax.Array, d: jax.Array, occupied: jax.Array, march: FrameMarch, block: int) -> tuple[jax.Array, _State]:
    """Marches all rays [P + 1, 3], block by block; gives near [P + 1] and the state before the first round."""
    padded = o.shape[0] - 1

    def one_block(i: jax.Array, carry):
        near, state = carry
        first = i * block
        marched = march_bits(jax.lax.dynamic_slice_in_dim(o, first, block), jax.lax.dynamic_slice_in_dim(d, first, block), occupied, march)
        ray = first + jnp.arange(block, dtype=jnp.int32)
        listed, live = _append(state.listed, state.live, ray, jnp.any(marched.bits != 0, axis=1))
        bits = jax.lax.dynamic_update_slice_in_dim(state.bits, marched.bits, first, axis=0)
        return jax.lax.dynamic_update_slice_in_dim(near, marched.near, first, axis=0), state._replace(bits=bits, listed=listed, live=live)

    start = _State(
        bits=jnp.zeros((padded + 1, march.words), jnp.uint32),
        light=jnp.zeros((padded + 1, 5)).at[:, 3].set(1.0),
        listed=jnp.zeros(padded, jnp.int32),
        live=jnp.int32(0),
        samples=jnp.int32(0),
    )
    return jax.lax.fori_loop(0, padded // block, one_block, (jnp.zeros(padded + 1), start))


def _append(listed: jax.Array, live: jax.Array, ray: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Writes the living rays of a block behind the first `live` entries of the list.

    A whole block is written: what follows the survivors is overwritten by the next block or never read. Because no more is written than
    was read, the entries of blocks still to come stay as they are.
    """
    chosen = jnp.nonzero(alive, size=ray.shape[0], fill_value=0)[0]
    listed = jax.lax.dynamic_update_slice_in_dim(listed, ray[chosen], live, axis=0)
    return listed, live + jnp.sum(alive, dtype=jnp.int32)


def _composite(light: jax.Array, optical: jax.Array, rgb: jax.Array, t: jax.Array, end_threshold: jax.Array | float) -> jax.Array:
    """Adds one round to the light of B rays.

    Args:
      light: [B, 5] rgb, transmittance, depth so far.
      optical: [B, S] density times length, 0 where there is no sample.
      rgb: [B, S, 3].
      t: [B, S].
      end_threshold: see `render_per_ray`.
    """
    through = light[:, 3:4]
    before = through * jnp.exp(-(jnp.cumsum(optical, axis=1) - optical))
    visited = before >= end_threshold
    weight = jnp.where(visited, before * -jnp.expm1(-optical), 0.0)
    left = through * jnp.exp(-jnp.sum(jnp.where(visited, optical, 0.0), axis=1, keepdims=True))
    color = light[:, :3] + jnp.sum(jnp.where(weight[..., None] > 0.0, weight[..., None] * rgb, 0.0), axis=1)
    return jnp.concatenate([color, left, light[:, 4:] + jnp.sum(weight * t, axis=1, keepdims=True)], axis=1)
