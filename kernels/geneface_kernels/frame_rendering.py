"""Inference rendering of whole frames: ray marching, a radiance field given as a function, and compositing in one jitted call."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.ray_marching import Lattice
from geneface_kernels.ray_marching.geometry import cell_index, near_far_from_aabb
from geneface_kernels.typing import Array, Bool, Float, Float32, Int32, Integer, Num

# -------- Arguments and results of both renderers

Field = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""A radiance field: (points [M, 3], unit directions [M, 3], frame [M] int32 of each point) -> (sigma [M] >= 0, rgb [M, 3]).

It is also evaluated at padding points (the origin), whose values are discarded."""


class Cells(NamedTuple):
    """Cells by which a ray is sampled, and those of them that show.

    Attributes:
      occupied: [R, R, R]; the samples of a ray are its first `max_samples` in these cells, as in training.
      shown: bits of a finer grid (`occupancy.pack_cells`); samples elsewhere are skipped. In bits, it stays in the processor's cache.
    """

    occupied: Bool[Array, "R R R"]
    shown: Integer[Array, "Q Q Z"]


Occupied = Bool[Array, "R R R"] | Integer[Array, "R R Z"] | Cells
"""Occupied cells, x slowest; or their bits (Z = R / 32); or both occupied cells and those that show."""


class FrameRender(NamedTuple):
    """Rendered rays, [N] or [F, N].

    Attributes:
      rgb: color before the background.
      alpha: opacity.
      depth: sum of weight * t.
      samples: number of field evaluations requested by rays.
      complete: False for a ray whose samples did not fit the buffer; its color is that of an empty ray.
      dropped: number of rays that are not complete.
    """

    rgb: Float32[jax.Array, "*rays 3"]
    alpha: Float32[jax.Array, "*rays"]
    depth: Float32[jax.Array, "*rays"]
    samples: Int32[jax.Array, ""]
    complete: Bool[jax.Array, "*rays"]
    dropped: Int32[jax.Array, ""]


@dataclasses.dataclass(frozen=True)
class FrameMarch:
    """How the rays of a frame are sampled (static).

    Attributes:
      aabb: (min xyz, max xyz) of the box rays are clipped to.
      min_near: closest sample to the camera.
      lattice: sample positions, from where the ray enters the box.
      max_samples: most samples of one ray; further ones are ignored.
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
        """W, words of a ray's sample bitmask."""
        return -(-self.lattice.points // WORD)


def as_batch(
    rays_o: Num[Array, "*rays 3"], rays_d: Num[Array, "*rays 3"], occupied: Occupied
) -> tuple[Float32[jax.Array, "F N 3"], Float32[jax.Array, "F N 3"]]:
    """Origins and directions [N, 3] or [F, N, 3] -> both [F, N, 3].

    Raises:
      ValueError: an argument has another shape.
    """
    if rays_o.ndim not in (2, 3) or rays_o.shape[-1] != 3:
        raise ValueError(f"rays_o must be [N, 3] or [F, N, 3], got {rays_o.shape}")
    if rays_d.shape != rays_o.shape:
        raise ValueError(f"rays_d must be shaped like rays_o, {rays_o.shape}, got {rays_d.shape}")
    for name, grid in occupied._asdict().items() if isinstance(occupied, Cells) else (("occupied", occupied),):
        if grid.dtype not in (jnp.bool_, jnp.uint32):
            raise ValueError(f"{name} must be bool, or uint32 with a bit per cell, got {grid.dtype}")
        cells = WORD if grid.dtype == jnp.uint32 else 1
        if grid.ndim != 3 or grid.shape != (len(grid), len(grid), len(grid) // cells):
            raise ValueError(f"{name} must be [R, R, R], or in bits [R, R, R / {WORD}], got {grid.shape}")
    shape = rays_o.shape if rays_o.ndim == 3 else (1, *rays_o.shape)
    return jnp.asarray(rays_o, jnp.float32).reshape(shape), jnp.asarray(rays_d, jnp.float32).reshape(shape)


# -------- Sample bitmasks: one bit per lattice point of a ray
#
# A frame has many more lattice points than samples. As bits, a ray's samples are two words for up to 64 lattice points, they are computed
# by one reduction, and the next sample is the lowest set bit: no sort, no scatter, no array of size rays x lattice points.

WORD = 32


class MarchedBits(NamedTuple):
    """`near`: ray parameter of lattice point 0. `bits`: bit k of a row is set if lattice point k is a sample."""

    near: Float32[jax.Array, " N"]
    bits: Integer[jax.Array, "N W"]


def march_bits(rays_o: Float32[jax.Array, "N 3"], rays_d: Float32[jax.Array, "N 3"], occupied: Occupied, march: FrameMarch) -> MarchedBits:
    """Tests all lattice points of all rays against the occupancy grid, without jitter."""
    if isinstance(occupied, Cells):
        near, bits = march_bits(rays_o, rays_d, occupied.occupied, march)
        return MarchedBits(near, first_samples(bits, march.max_samples) & march_bits(rays_o, rays_d, occupied.shown, march).bits)
    lattice, resolution = march.lattice, occupied.shape[0]
    near, far = near_far_from_aabb(rays_o, rays_d, jnp.asarray(march.aabb, jnp.float32), march.min_near)
    flat = jnp.asarray(occupied).reshape(-1)

    def in_occupied(cell: jax.Array) -> jax.Array:
        if flat.dtype == jnp.bool_:
            return flat.at[cell].get(mode="promise_in_bounds")
        word = flat.at[cell >> 5].get(mode="promise_in_bounds")
        return ((word >> (cell & 31).astype(jnp.uint32)) & np.uint32(1)).astype(bool)

    # The first point of a ray lies on the box's face, which often is a face between cells too: rounding decides. The product is rounded
    # before it is added, as in the recorded runs of the original; fused, some rays would gain or lose a sample there.
    entry = rays_o + _rounded_product(rays_d, jnp.where(near < far, near, 0.0)[:, None])
    words = []
    for first in range(0, lattice.points, WORD):
        k = np.arange(first, min(first + WORD, lattice.points))
        along = k.astype(np.float32) * np.float32(lattice.step)
        inside = near[:, None] + along < far[:, None]
        points = entry[:, None] + rays_d[:, None] * along[:, None]
        hit = inside & in_occupied(cell_index(points, resolution, lattice.bound))
        bit = np.uint32(1) << (k - first).astype(np.uint32)
        words.append(jnp.sum(jnp.where(hit, bit, np.uint32(0)), axis=1, dtype=jnp.uint32))
    return MarchedBits(near, jnp.stack(words, axis=1))


def _rounded_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a * b, which the compiler can't fuse with an addition: the bits pass through an operation whose result it can't predict."""
    product = a * b
    bits = jax.lax.bitcast_convert_type(product, jnp.uint32) ^ jnp.isnan(product).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def first_samples(bits: Integer[jax.Array, "N W"], count: int) -> Integer[jax.Array, "N W"]:
    """The bits of the first `count` (static) samples of every ray, without the others."""
    _, _, later = next_samples(bits, count)
    return bits & ~later


def sample_counts(bits: Integer[jax.Array, "N W"], max_samples: int) -> Int32[jax.Array, " N"]:
    """Samples of each ray, at most `max_samples`."""
    return jnp.minimum(jnp.sum(jax.lax.population_count(bits).astype(jnp.int32), axis=1), max_samples)


def next_samples(
    bits: Integer[jax.Array, "N W"], count: int
) -> tuple[Int32[jax.Array, "N count"], Bool[jax.Array, "N count"], Integer[jax.Array, "N W"]]:
    """Removes the first `count` (static) samples of every ray.

    Returns:
      (lattice points, 0 where the ray had no more samples; whether it had one; remaining bits).
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


def _composite(
    optical: jax.Array, rgb: jax.Array, t: jax.Array, transmittance: jax.Array, end_threshold: Array | float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Composites the next S samples of N rays.

    Args:
      optical: [N, S] density times step length, 0 where there is no sample.
      rgb: [N, S, 3].
      t: [N, S].
      transmittance: [N, 1] before the samples.
      end_threshold: see `render_per_ray`.

    Returns:
      (rgb [N, 3] and depth [N, 1] of these samples, transmittance [N, 1] after them).
    """
    before = transmittance * jnp.exp(-(jnp.cumsum(optical, axis=1) - optical))
    visited = before >= end_threshold
    weight = jnp.where(visited, before * -jnp.expm1(-optical), 0.0)
    after = transmittance * jnp.exp(-jnp.sum(jnp.where(visited, optical, 0.0), axis=1, keepdims=True))
    color = jnp.sum(jnp.where(weight[..., None] > 0.0, weight[..., None] * rgb, 0.0), axis=1)
    return color, jnp.sum(weight * t, axis=1, keepdims=True), after


# -------- Rendering in rounds over a list of live rays: work follows the number of samples; best on a CPU
#
# A ray's color does not depend on other rays (in the original it does). In each round the list of live rays is processed in blocks, one
# sample per ray, and each block writes its survivors back to the front of the list. When few rays are left, smaller blocks take several
# samples of each: the padding of a block is evaluated too. All frames of a batch share the list. Shapes are static, so a video compiles
# once.


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Sizes of the rounds (static): trades of memory, padding and samples behind a surface against speed.

    Attributes:
      block: rays per block while many are live.
      samples: of each ray and round.
      last_block, last_samples: the same, once all live rays fit `block`.
    """

    block: int = 4096
    samples: int = 1
    last_block: int = 512
    last_samples: int = 4

    def __post_init__(self) -> None:
        if min(self.block, self.samples, self.last_block, self.last_samples) < 1 or self.block % self.last_block:
            raise ValueError(f"the sizes of rounds must be positive, and block a multiple of last_block: {self}")


class _State(NamedTuple):
    """State between rounds. The arrays of rays have a spare row at the end, used by the padding of a block.

    Attributes:
      bits: [P + 1, W] remaining samples.
      light: [P + 1, 5] rgb, transmittance, depth so far.
      listed: [P] int32 list of live rays.
      live: [] int32 length of the list.
      samples: [] int32 evaluated so far.
    """

    bits: jax.Array
    light: jax.Array
    listed: jax.Array
    live: jax.Array
    samples: jax.Array


def render_per_ray(
    field: Field,
    rays_o: Num[Array, "*rays 3"],
    rays_d: Num[Array, "*rays 3"],
    occupied: Occupied,
    march: FrameMarch,
    end_threshold: Float[Array, ""] | float,
    *,
    wanted: Bool[Array, "*rays"] | None = None,
    rounds: Rounds = Rounds(),
) -> FrameRender:
    """Renders the rays of one frame, or of a batch of frames, without jitter; every ray is complete.

    Args:
      field: see `Field`.
      rays_o, rays_d: [N, 3], or [F, N, 3] for F frames.
      occupied: occupancy grid of all frames, see `Occupied`.
      march: static.
      end_threshold: a ray ends when its transmittance falls below this; the sample that takes it there still counts.
      wanted: the rays to render; the others come out empty. None is all.
      rounds: static.

    Raises:
      ValueError: an argument has a wrong shape.
    """
    o, d = as_batch(rays_o, rays_d, occupied)
    shape = rays_o.shape[:-1]
    per_frame = o.shape[1]
    o, d = o.reshape(-1, 3), d.reshape(-1, 3)
    n, block = o.shape[0], rounds.block
    padded = -(-n // block) * block
    if wanted is None:
        marched = march_bits(o, d, occupied, march)
        bits, near = jnp.pad(marched.bits, ((0, padded + 1 - n), (0, 0))), jnp.pad(marched.near, (0, padded + 1 - n))
    else:
        near, bits = _march_some(o, d, jnp.asarray(wanted).reshape(-1), occupied, march, block)
    o, d = (jnp.pad(array, ((0, padded + 1 - n), (0, 0))) for array in (o, d))
    listed, live = list_of(jnp.any(bits[:padded] != 0, axis=1))
    state = _State(
        bits=bits,
        light=jnp.zeros((padded + 1, 5)).at[:, 3].set(1.0),
        listed=listed,
        live=live,
        samples=jnp.int32(0),
    )

    def one_block(i: jax.Array, state: _State, *, live: jax.Array, first: jax.Array, block: int, count: int) -> _State:
        ray = jax.lax.dynamic_slice_in_dim(state.listed, i * block, block)
        ray = jnp.where(i * block + jnp.arange(block) < live, ray, padded)
        steps, found, left = next_samples(state.bits[ray], count)
        used = found & (first + jnp.arange(count) < march.max_samples)
        t = jnp.where(used, near[ray][:, None] + steps * march.lattice.step, 0.0)
        directions = jnp.broadcast_to(d[ray][:, None], (block, count, 3))
        points = jnp.clip(o[ray][:, None] + directions * t[..., None], -march.lattice.bound, march.lattice.bound)
        frame = jnp.broadcast_to((ray // per_frame)[:, None], t.shape)
        sigma, rgb = field(points.reshape(-1, 3), directions.reshape(-1, 3), frame.reshape(-1))
        optical = jnp.where(used, sigma.reshape(used.shape), 0.0) * march.lattice.step
        light = state.light[ray]
        color, depth, after = _composite(optical, rgb.reshape(*used.shape, 3), t, light[:, 3:4], end_threshold)
        light = jnp.concatenate([light[:, :3] + color, after, light[:, 4:] + depth], axis=1)
        alive = jnp.any(left != 0, axis=1) & (light[:, 3] >= end_threshold) & (first + count < march.max_samples)
        listed, kept = _append(state.listed, state.live, ray, alive)
        return _State(state.bits.at[ray].set(left), state.light.at[ray].set(light), listed, kept, state.samples + jnp.sum(used))

    def one_round(carry: tuple[jax.Array, _State], block: int, count: int) -> tuple[jax.Array, _State]:
        first, state = carry
        shade = functools.partial(one_block, live=state.live, first=first, block=block, count=count)
        after = jax.lax.fori_loop(0, -(-state.live // block), shade, state._replace(live=jnp.int32(0)))
        return first + count, after

    many = functools.partial(one_round, block=rounds.block, count=rounds.samples)
    few = functools.partial(one_round, block=rounds.last_block, count=rounds.last_samples)
    carry = jax.lax.while_loop(lambda carry: carry[1].live > rounds.block, many, (jnp.int32(0), state))
    _, state = jax.lax.while_loop(lambda carry: carry[1].live > 0, few, carry)
    rgb, transmittance, depth = jnp.split(state.light[:n], (3, 4), axis=1)
    return FrameRender(
        rgb=rgb.reshape(*shape, 3),
        alpha=1.0 - transmittance.reshape(shape),
        depth=depth.reshape(shape),
        samples=state.samples,
        complete=jnp.ones(shape, bool),
        dropped=jnp.int32(0),
    )


def _march_some(
    o: jax.Array, d: jax.Array, wanted: jax.Array, occupied: Occupied, march: FrameMarch, block: int
) -> tuple[jax.Array, jax.Array]:
    """`march_bits` of the wanted rays of N, in blocks: near and bits [P + 1], 0 for the others."""
    n = o.shape[0]
    padded = -(-n // block) * block
    listed, count = list_of(jnp.pad(wanted, (0, padded - n)))

    def one_block(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        near, bits = carry
        ray = jax.lax.dynamic_slice_in_dim(listed, i * block, block)
        some = march_bits(o.at[ray].get(mode="clip"), d.at[ray].get(mode="clip"), occupied, march)
        return near.at[ray].set(some.near), bits.at[ray].set(jnp.where((ray < n)[:, None], some.bits, np.uint32(0)))

    blocks = -(-count // block)
    empty = jnp.zeros(padded + 1), jnp.zeros((padded + 1, march.words), jnp.uint32)
    near, bits = jax.lax.fori_loop(0, blocks, one_block, empty)
    return near, bits


ROW = 64
"""Elements of a running sum within a row."""


def list_of(mask: Bool[Array, " N"]) -> tuple[Int32[jax.Array, " N"], Int32[jax.Array, ""]]:
    """Indices of the true elements in order, filled up with N, and their number.

    `jnp.nonzero`, but on a CPU in a quarter of its time: running sums within rows and over rows instead of over all elements.
    """
    n = mask.shape[0]
    ones = jnp.pad(jnp.asarray(mask, jnp.int32), (0, -n % ROW)).reshape(-1, ROW)
    within = jnp.cumsum(ones, axis=1)
    row_ends = jnp.cumsum(within[:, -1])
    place = (within + (row_ends - within[:, -1])[:, None]).reshape(-1)[:n] - 1
    indices = jnp.full(n + 1, n, jnp.int32).at[jnp.where(mask, place, n)].set(jnp.arange(n, dtype=jnp.int32), mode="promise_in_bounds")
    return indices[:n], row_ends[-1]


def _append(listed: jax.Array, live: jax.Array, ray: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Appends the live rays of a block to the first `live` entries of the list.

    A whole block is written: what follows the survivors is overwritten by the next block or never read. Never more is written than was
    read, so the entries of later blocks stay intact.
    """
    chosen, kept = list_of(alive)
    return jax.lax.dynamic_update_slice_in_dim(listed, ray.at[chosen].get(mode="clip"), live, axis=0), live + kept


# -------- Rendering in a single pass: march, pack the samples of all frames, one field evaluation, composite; best on a GPU
#
# No loop depends on data, so the device stays fully occupied. The price: samples behind an opaque surface are evaluated too, and the size
# of the sample buffer has to be chosen beforehand (`sufficient_budget`).


def render_single_pass(
    field: Field,
    rays_o: Num[Array, "*rays 3"],
    rays_d: Num[Array, "*rays 3"],
    occupied: Occupied,
    march: FrameMarch,
    end_threshold: Float[Array, ""] | float,
    *,
    budget: int,
) -> FrameRender:
    """Renders the rays of one frame, or of a batch of frames, without jitter; the same picture as `render_per_ray`.

    Args:
      field, rays_o, rays_d, occupied, march, end_threshold: as in `render_per_ray`.
      budget: M, rows of the sample buffer (static). Rays that don't fit are left empty and reported, never truncated.

    Returns:
      See `FrameRender`. `samples` counts all rays, including dropped ones: a sufficient budget holds that many.

    Raises:
      ValueError: an argument has a wrong shape, or the budget is not positive.
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

    # Back to [N, S] by a gather; a sum over segments would need atomics.
    place = jnp.arange(march.max_samples)
    valid = place < counts[:, None]
    source = jnp.where(valid, starts[:, None] + place, 0)
    optical = jnp.where(valid, sigma[source], 0.0) * march.lattice.step
    color, depth, transmittance = _composite(optical, rgb[source], t[source], jnp.ones((n, 1)), end_threshold)
    return FrameRender(
        rgb=color.reshape(*shape, 3),
        alpha=1.0 - transmittance.reshape(shape),
        depth=depth.reshape(shape),
        samples=jnp.sum(wanted, dtype=jnp.int32),
        complete=complete.reshape(shape),
        dropped=n - jnp.sum(complete, dtype=jnp.int32),
    )


def _ray_of_row(starts: jax.Array, counts: jax.Array, budget: int) -> jax.Array:
    """[M] int32 ray that owns each row: every ray writes its number at its first row, and a running maximum fills the others."""
    ids = jnp.arange(starts.shape[0], dtype=jnp.int32)
    first_rows = jnp.zeros(budget, jnp.int32).at[jnp.where(counts > 0, starts, budget)].set(ids, mode="drop")
    return jax.lax.cummax(first_rows)


# -------- Sample buffer size of `render_single_pass`

HEADROOM = 1.15
"""Margin over the counted frame, for a head that comes nearer or turns its wide side."""


def count_samples(
    rays_o: Num[Array, "*rays 3"], rays_d: Num[Array, "*rays 3"], occupied: Occupied, march: FrameMarch
) -> Int32[jax.Array, ""]:
    """Samples of all rays; arguments as in `render_single_pass`."""
    o, d = as_batch(rays_o, rays_d, occupied)
    marched = march_bits(o.reshape(-1, 3), d.reshape(-1, 3), occupied, march)
    return jnp.sum(sample_counts(marched.bits, march.max_samples), dtype=jnp.int32)


def sufficient_budget(samples: int, *, headroom: float = HEADROOM, steps_per_octave: int = 4) -> int:
    """Buffer size for about `samples` samples that stays the same while the number varies a little.

    Sizes are 2^e * (1 + i / steps_per_octave), so that a video compiles for one size, rarely two, and at most 1 / steps_per_octave of a
    buffer is lost to rounding.

    Args:
      samples: as counted by `count_samples`.
      headroom: the budget holds at least this times `samples`.
      steps_per_octave: sizes per power of two, itself a power of two.

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
