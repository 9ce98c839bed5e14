"""The gradient of a training march as the original defines it, for parity only."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def march_gradient(
    grad_points: jax.Array, grad_directions: jax.Array, deltas: jax.Array, ray: jax.Array, n_rays: int
) -> tuple[jax.Array, jax.Array]:
    """Gradients with respect to the rays from gradients with respect to the samples.

    The original differentiates a sample's position with t + dt, the end of its step, and ignores the clamp to the scene. (Automatic
    differentiation of `march_train` uses the sample's own t.)

    Args:
      grad_points, grad_directions: [M, 3].
      deltas: [M, 2] of `MarchedSamples`.
      ray: [M] int32; rows with `n_rays` and above are ignored.
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
