"""Frequency (positional) encoding without the pi factor."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def frequency_encode(x: jax.Array, octaves: int) -> jax.Array:
    """[x, sin(x), cos(x), sin(2x), cos(2x), sin(4x), ...] in blocks of D values.

    Args:
      x: [..., D].
      octaves: number of frequencies 1, 2, 4, ...

    Returns:
      [..., D * (1 + 2 * octaves)].
    """
    blocks = [x]
    for octave in range(octaves):
        scaled = x * (2.0**octave)
        blocks += [jnp.sin(scaled), jnp.cos(scaled)]
    return jnp.concatenate(blocks, axis=-1)
