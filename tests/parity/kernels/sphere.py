"""Points where rays leave a sphere around the scene, as coordinates of a spherical background."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from geneface_kernels.ray_marching.geometry import check_rays


def sphere_coordinates(rays_o: jax.Array, rays_d: jax.Array, radius: float) -> jax.Array:
    """Polar coordinates of the point where each ray leaves an origin-centered sphere; y points up.

    Args:
      rays_o, rays_d: [N, 3]; origins inside the sphere. A ray from outside that misses the sphere gives NaN.
      radius: of the sphere, in scene units.

    Returns:
      [N, 2] in [-1, 1]: (2 theta / pi - 1, phi / pi) with theta the angle from +y and phi = atan2(z, x), which jumps from 1 to -1.

    Raises:
      ValueError: wrong shapes.
    """
    check_rays(rays_o, rays_d)
    rays_o, rays_d = jnp.asarray(rays_o), jnp.asarray(rays_d)
    a = jnp.sum(rays_d * rays_d, axis=-1)
    b = jnp.sum(rays_o * rays_d, axis=-1)
    c = jnp.sum(rays_o * rays_o, axis=-1) - radius**2
    t = (-b + jnp.sqrt(b * b - a * c)) / a
    x, y, z = jnp.moveaxis(rays_o + t[:, None] * rays_d, -1, 0)
    theta, phi = jnp.arctan2(jnp.sqrt(x * x + z * z), y), jnp.arctan2(z, x)
    return jnp.stack([2.0 * theta / jnp.pi - 1.0, phi / jnp.pi], axis=-1)
