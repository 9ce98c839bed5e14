"""Frame rendering without rounds: march everything, pack the samples of all frames, one field evaluation, composite. Best on a GPU.

No loop depends on data, so a device with many cores is filled from the first instruction to the last. The price is that samples behind an
opaque surface are evaluated too, and a buffer whose size has to be chosen beforehand (`budget.py`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels.frame_rendering.march import FrameMarch, march_bits, next_samples, sample_counts
from geneface_kernels.frame_rendering.result import Field, FrameRender, as_batch


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
