"""The slab test (Kay and Kajiya 1986)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

FAR_AWAY = jnp.finfo(jnp.float32).max
"""Both ends of a ray that misses the box."""


def near_far_from_aabb(rays_o: jax.Array, rays_d: jax.Array, aabb: jax.Array, min_near: float) -> tuple[jax.Array, jax.Array]:
    """Ray parameters at which rays enter and leave a box. No gradient flows back, as in the original.

    Args:
      rays_o, rays_d: [N, 3] origins and directions (any length; the results are in units of it). Zero components of a direction are
        allowed. A ray that lies exactly in the plane of a face counts as a miss.
      aabb: [6] (min xyz, max xyz).
      min_near: nears are clamped to at least this.

    Returns:
      ([N] near, [N] far); `FAR_AWAY` in both for a missed box. A box behind the camera is no miss: it has far < near.

    Raises:
      ValueError: wrong shapes.
    """
    check_rays(rays_o, rays_d)
    if jnp.shape(aabb) != (6,):
        raise ValueError(f"aabb must be [6] (min xyz, max xyz), got shape {jnp.shape(aabb)}")
    rays_o, rays_d, aabb = (jax.lax.stop_gradient(jnp.asarray(array)) for array in (rays_o, rays_d, aabb))
    inverse = 1.0 / rays_d
    a, b = (aabb[:3] - rays_o) * inverse, (aabb[3:] - rays_o) * inverse
    # 0 * inf is NaN, for a ray in the plane of a face: fmin and fmax take the other value, so that no NaN leaves this function.
    low, high = jnp.fmin(a, b), jnp.fmax(a, b)
    near, far = low.max(axis=-1), high.min(axis=-1)
    miss = near > far
    return jnp.where(miss, FAR_AWAY, jnp.maximum(near, min_near)), jnp.where(miss, FAR_AWAY, far)


def check_rays(rays_o: jax.Array, rays_d: jax.Array) -> None:
    """Raises ValueError unless both are [N, 3] of one N."""
    shapes = jnp.shape(rays_o), jnp.shape(rays_d)
    if len(shapes[0]) != 2 or shapes[0][1] != 3 or shapes[0] != shapes[1]:
        raise ValueError(f"rays_o and rays_d must both be [N, 3], got shapes {shapes[0]} and {shapes[1]}")
