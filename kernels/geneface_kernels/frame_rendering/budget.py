"""Choosing the sample buffer of `render_single_pass`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels.frame_rendering.march import FrameMarch, march_bits, sample_counts
from geneface_kernels.frame_rendering.result import as_batch

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
