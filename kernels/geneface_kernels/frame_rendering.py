"""Inference rendering of whole frames: ray marching, a radiance field given as a function, and compositing in one jitted call."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.ray_marching import Lattice
from geneface_kernels.ray_marching.geometry import cell_index, near_far_from_aabb

# ----------------------------------------------------------------------------------------------------
# What every way of rendering a frame takes and gives.

Field = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""A radiance field: (points [M, 3], unit directions [M, 3], frame [M] int32 of each point) -> (sigma [M] >= 0, rgb [M, 3]).

It is also called with points that no ray needs (the origin); what it says of those is thrown away."""


class FrameRender(NamedTuple):
    """Rendered rays, shaped like the rays without their last axis: [N] or [F, N].

    Attributes:
      rgb: [..., 3] colour before the background.
      alpha: [...] opacity.
      depth: [...] sum of weight * t.
      samples: [] int32, field evaluations that a ray asked for.
      complete: [...] bool; a ray that is not lost its samples to a full buffer, and its colour is that of an empty ray.
      dropped: [] int32, number of rays that are not complete.
    """

    rgb: jax.Array
    alpha: jax.Array
    depth: jax.Array
    samples: jax.Array
    complete: jax.Array
    dropped: jax.Array


def as_batch(rays_o: jax.Array, rays_d: jax.Array, occupied: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rays [N, 3] or [F, N, 3] -> both [F, N, 3] float32.

    Raises:
      ValueError: an argument has another shape.
    """
    if rays_o.ndim not in (2, 3) or rays_o.shape[-1] != 3:
        raise ValueError(f"rays_o must be [N, 3] or [F, N, 3], got {rays_o.shape}")
    if rays_d.shape != rays_o.shape:
        raise ValueError(f"rays_d must be shaped like rays_o, {rays_o.shape}, got {rays_d.shape}")
    if occupied.ndim != 3 or len(set(occupied.shape)) != 1:
        raise ValueError(f"occupied must be [R, R, R], got {occupied.shape}")
    if occupied.dtype != jnp.bool_:
        raise ValueError(f"occupied must be bool, got {occupied.dtype}")
    shape = rays_o.shape if rays_o.ndim == 3 else (1, *rays_o.shape)
    return rays_o.reshape(shape).astype(jnp.float32), rays_d.reshape(shape).astype(jnp.float32)


# ----------------------------------------------------------------------------------------------------
# The samples of a ray as one bit per lattice point.
#
# A frame has many more lattice points than samples. Kept as bits, a ray's samples are two words for up to 64 lattice points, they are made
# by one reduction, and "the next sample" is the lowest set bit: no sort, no scatter, and nothing of size rays x lattice points is stored.

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


# ----------------------------------------------------------------------------------------------------
# Choosing the sample buffer of `render_single_pass`.

HEADROOM = 1.15
"""A head that comes nearer or turns its long side asks for this much more than the frame that was counted."""


def count_samples(rays_o: jax.Array, rays_d: jax.Array, occupied: jax.Array, march: FrameMarch) -> jax.Array:
    """[] int32: samples that rays [N, 3] or [F, N, 3] ask for; see `render_single_pass` for the arguments."""
    o, d = as_batch(rays_o, rays_d, occupied)
    marched = march_bits(o.reshape(-1, 3), d.reshape(-1, 3), occupied, march)
    return jnp.sum(sample_counts(marched.bits, march.max_samples), dtype=jnp.int32)


def sufficient_budget(samples: int, *, headroom: float = HEADROOM, steps_per_octave: int = 4) -> int:
    """A budget for about this many samples that stays the same while the number wanders a little.

    Sizes are 2^e * (1 + i / steps_per_octave), so that a whole video compiles for one size, seldom two, and at most 1 / steps_per_octave
    of a buffer is rounding.

    Args:
      samples: what was counted.
      headroom: the budget holds at least this times `samples`.
      steps_per_octave: sizes between a power of two and the next, itself a power of two.

    Raises:
      ValueError: an argument out of range.
    """
    if samples < 0 or headroom < 1.0:
        raise ValueError(f"samples must be at least 0 and headroom at least 1, got {samples} and {headroom}")
    if steps_per_octave < 1 or steps_per_octave & (steps_per_octave - 1):
        raise ValueError(f"steps_per_octave must be a power of two, got {steps_per_octave}")
    wanted = max(int(samples * headroom) + 1, 1024)
    granule = max((1 << (wanted.bit_length() - 1)) // steps_per_octave, 1)
    return -(-wanted // granule) * granule


# ----------------------------------------------------------------------------------------------------
# Frame rendering whose work follows the number of live rays: best on a CPU.
#
# Every ray stops by itself, so a ray's colour never depends on its neighbours (in the original it does: see `reference.py`). Rounds of a
# few samples each; a list of the rays still alive is worked off in blocks, and each block packs its survivors back to the front of the
# same list. All frames of a batch share the list. Shapes are static, so a video compiles once.

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


# ----------------------------------------------------------------------------------------------------
# Frame rendering without rounds: march everything, pack the samples of all frames, one field evaluation, composite. Best on a GPU.
#
# No loop depends on data, so a device with many cores is filled from the first instruction to the last. The price is that samples behind an
# opaque surface are evaluated too, and a buffer whose size has to be chosen beforehand (`budget.py`).


def render_single_pass(
    field: Field,
    rays_o: jax.Array,
    rays_d: jax.Array,
    occupied: jax.Array,
    march: FrameMarch,
    end_threshold: jax.Array | float,
    *,
    budget: int,
) -> FrameRender:
    """Renders the rays of one frame, or of a batch of frames, without jitter; the same picture as `render_per_ray`.

    Args:
      field: see `Field`.
      rays_o, rays_d: [N, 3], or [F, N, 3] for F frames.
      occupied: [R, R, R] bool, the same for all frames.
      march: static.
      end_threshold: a ray ends when its transmittance falls below this; the sample that takes it there still counts.
      budget: M, rows of the sample buffer (static). Rays that don't fit are left empty and reported, never cut short.

    Returns:
      See `FrameRender`. `samples` counts what all rays asked for, dropped ones too: what a sufficient budget holds.

    Raises:
      ValueError: an argument has a wrong shape, or a budget that is not positive.
    """
    if budget < 1:
        raise ValueError(f"budget must be a positive number of samples, got {budget}")
    o, d = as_batch(rays_o, rays_d, occupied)
    shape = rays_o.shape[:-1]
    per_frame = o.shape[1]
    o, d = o.reshape(-1, 3), d.reshape(-1, 3)
    n = o.shape[0]
    marched = march_bits(o, d, occupied, march)
    wanted = sample_counts(marched.bits, march.max_samples)
    ends = jnp.cumsum(wanted)
    complete = ends <= budget
    counts = jnp.where(complete, wanted, 0)
    starts = jnp.where(complete, ends - wanted, 0)

    steps, _, _ = next_samples(marched.bits, march.max_samples)
    row = jnp.arange(budget)
    ray = _ray_of_row(starts, counts, budget)
    used = row < jnp.max(jnp.where(complete, ends, 0))
    slot = jnp.where(used, row - starts[ray], 0)
    t = jnp.where(used, marched.near[ray] + steps[ray, slot] * march.lattice.step, 0.0)
    points = jnp.clip(o[ray] + d[ray] * t[:, None], -march.lattice.bound, march.lattice.bound)
    sigma, rgb = field(points, d[ray], ray // per_frame)

    # Back to [N, S]: a gather, where a sum over segments would need atomics.
    place = jnp.arange(march.max_samples)
    valid = place < counts[:, None]
    source = jnp.where(valid, starts[:, None] + place, 0)
    optical = jnp.where(valid, sigma[source], 0.0) * march.lattice.step
    before = jnp.exp(-(jnp.cumsum(optical, axis=1) - optical))
    visited = before >= end_threshold
    weight = jnp.where(visited, before * -jnp.expm1(-optical), 0.0)
    through = jnp.exp(-jnp.sum(jnp.where(visited, optical, 0.0), axis=1))
    return FrameRender(
        rgb=jnp.sum(jnp.where(weight[..., None] > 0.0, weight[..., None] * rgb[source], 0.0), axis=1).reshape(*shape, 3),
        alpha=(1.0 - through).reshape(shape),
        depth=jnp.sum(weight * t[source], axis=1).reshape(shape),
        samples=jnp.sum(wanted, dtype=jnp.int32),
        complete=complete.reshape(shape),
        dropped=n - jnp.sum(complete, dtype=jnp.int32),
    )


def _ray_of_row(starts: jax.Array, counts: jax.Array, budget: int) -> jax.Array:
    """[M] int32 ray that owns each row: every ray writes its number at its first row, and the largest so far holds."""
    ids = jnp.arange(starts.shape[0], dtype=jnp.int32)
    first_rows = jnp.zeros(budget, jnp.int32).at[jnp.where(counts > 0, starts, budget)].set(ids, mode="drop")
    return jax.lax.cummax(first_rows)
