"""Marching for inference: the next few samples of rays that are still alive."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geneface_kernels.backend import Implementation
from geneface_kernels.ray_marching.march import march
from geneface_kernels.ray_marching.marching import Marching, clamp, step_length


class NextSamples(NamedTuple):
    """The next samples of each ray; zero after a ray's end.

    Attributes:
      points: [N, n, 3] float32, clamped to the scene.
      deltas: [N, n, 2] float32 (length of the sample's step, parameter at the END of the step); (0, 0) says that the ray has ended.
    """

    points: jax.Array
    deltas: jax.Array


def march_step(
    rays_o: jax.Array,
    rays_d: jax.Array,
    t: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    marching: Marching,
    n_steps: int,
    implementation: Implementation = "auto",
) -> NextSamples:
    """Marches each ray from `t` until it has `n_steps` samples or ends (`march_rays` of RAD-NeRF).

    Args:
      rays_o, rays_d: [N, 3] float32, the rays that are alive.
      t: [N] float32 where each goes on; the second of the last sample's deltas.
      far: [N] float32.
      noise: [N] float32 in [0, 1), jitter in steps; zeros but in the first round of a perturbed frame.
      occupied: [C, R, R, R] bool, x slowest ([R, R, R] when there is one cascade).
      marching: static.
      n_steps: samples a ray (static).
      implementation: see `backend`.

    Raises:
      ValueError: wrong shapes or dtypes.
      NotImplementedError: the named implementation can't run here.
    """
    found, counts = march(rays_o, rays_d, t, far, noise, occupied, marching, n_steps, implementation)
    used = jnp.arange(n_steps) < counts[:, None]
    at = jnp.where(used, found, 0.0)
    step = step_length(at, marching)
    points = clamp(rays_o[:, None] + rays_d[:, None] * at[..., None], -marching.bound, marching.bound)
    deltas = jnp.stack([step, at + step], axis=-1)
    return NextSamples(jnp.where(used[..., None], points, 0.0), jnp.where(used[..., None], deltas, 0.0))
