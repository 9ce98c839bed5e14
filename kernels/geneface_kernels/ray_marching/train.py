"""Marching for training: all samples of a batch of rays in one flat buffer of fixed size, and the gradient of that."""

from __future__ import annotations

import jax
import jax.numpy as jnp

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


def march_gradient(
    grad_points: jax.Array, grad_directions: jax.Array, deltas: jax.Array, ray: jax.Array, n_rays: int
) -> tuple[jax.Array, jax.Array]:
    """Gradients by the rays from gradients by the samples, as the original defines them.

    It moves a sample with t + dt, the end of its step, and ignores the clamp to the scene; it stores results by row of its ray table,
    here they are by ray. (Automatic differentiation of `march_train` gives the derivative with the sample's own t.)

    Args:
      grad_points, grad_directions: [M, 3].
      deltas: [M, 2] of `MarchedSamples`.
      ray: [M] int32; rows of `n_rays` and above are left out.
      n_rays: N (static).

    Returns:
      ([N, 3] by rays_o, [N, 3] by rays_d).
    """
    for name, array, shape in (
        ("grad_directions", grad_directions, grad_points.shape),
        ("deltas", deltas, (len(grad_points), 2)),
        ("ray", ray, (len(grad_points),)),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} must be {list(shape)} for {len(grad_points)} rows of grad_points, got {list(array.shape)}")
    by_direction = grad_points * deltas[:, 1:] + grad_directions
    zeros = jnp.zeros((n_rays, 3), grad_points.dtype)
    return zeros.at[ray].add(grad_points, mode="drop"), zeros.at[ray].add(by_direction, mode="drop")
