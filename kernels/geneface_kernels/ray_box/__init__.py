"""Where rays enter and leave an axis-aligned box."""

from __future__ import annotations

import jax
import jax.numpy as jnp

FAR_AWAY = jnp.finfo(jnp.float32).max
"""Both ends of a ray that misses the box."""


def near_far_from_aabb(rays_o: jax.Array, rays_d: jax.Array, aabb: jax.Array, min_near: float) -> tuple[jax.Array, jax.Array]:
    """Slab test.

    Args:
      rays_o, rays_d: [N, 3]; zero components of a direction are allowed.
      aabb: [6] (min xyz, max xyz).
      min_near: nears are clamped to at least this.

    Returns:
      ([N] near, [N] far); `FAR_AWAY` in both for a missed box. A box behind the camera has far < near.
    """
    inverse = 1.0 / rays_d
    a, b = (aabb[:3] - rays_o) * inverse, (aabb[3:] - rays_o) * inverse
    # fmin/fmax drop the NaN of 0 * inf, as the slab test needs for a ray inside the plane of a face.
    low, high = jnp.fmin(a, b), jnp.fmax(a, b)
    near, far = low.max(axis=-1), high.min(axis=-1)
    miss = near > far
    return jnp.where(miss, FAR_AWAY, jnp.maximum(near, min_near)), jnp.where(miss, FAR_AWAY, far)
