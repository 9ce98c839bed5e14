"""What every way of rendering a frame takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

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
