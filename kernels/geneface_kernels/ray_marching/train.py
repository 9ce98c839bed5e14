"""Marching for training: all samples of a batch of rays in one flat buffer of fixed size."""

from __future__ import annotations

import jax

from geneface_kernels.backend import Implementation
from geneface_kernels.ray_marching.march import march
from geneface_kernels.ray_marching.marching import Marching
from geneface_kernels.ray_marching.packing import MarchedSamples, pack


def march_train(
    rays_o: jax.Array,
    rays_d: jax.Array,
    near: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    marching: Marching,
    budget: int,
    implementation: Implementation = "auto",
) -> MarchedSamples:
    """Marches N rays (`march_rays_train` of RAD-NeRF) with at most `marching.max_steps` samples each.

    Unlike the original, rays keep their order in the buffer (there it depends on which thread comes first).

    Args:
      rays_o, rays_d: [N, 3] float32.
      near, far: [N] float32 of `ray_box`; a missed ray has near = far.
      noise: [N] float32 in [0, 1), jitter of each ray's first sample in steps.
      occupied: [C, R, R, R] bool, x slowest ([R, R, R] when there is one cascade).
      marching: static.
      budget: M, rows of the buffer (static). Rays that do not fit are dropped whole, see `MarchedSamples.complete`.
      implementation: see `backend`.

    Raises:
      ValueError: wrong shapes or dtypes.
      NotImplementedError: the named implementation can't run here.
    """
    t, counts = march(rays_o, rays_d, near, far, noise, occupied, marching, marching.max_steps, implementation)
    return pack(rays_o, rays_d, t, counts, marching, budget)
