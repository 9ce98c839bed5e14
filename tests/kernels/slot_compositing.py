"""Reference compositing of a fixed number of sample slots per ray, differentiated by jax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from geneface_kernels.compositing.lanes import Composite


def composite(sigma: jax.Array, rgb: jax.Array, t: jax.Array, step: float, ambient: jax.Array, end_threshold: float = 1e-4) -> Composite:
    """Front-to-back compositing of a fixed number of slots per ray.

    The sample that takes the transmittance below `end_threshold` still counts, later ones do not (as RAD-NeRF trains).

    Args:
      sigma: [N, S] density, 0 in unused slots.
      rgb: [N, S, 3].
      t: [N, S] ray parameter of each sample.
      step: length of a sample.
      ambient: [N, S] value to sum without weights, 0 in unused slots.
      end_threshold: transmittance below which a ray has ended.
    """
    optical = sigma * step
    # Transmittance before each sample. The sum is over one ray only, so float32 keeps its precision.
    before = jnp.exp(-(jnp.cumsum(optical, axis=1) - optical))
    visited = jax.lax.stop_gradient(before) >= end_threshold
    weight = jnp.where(visited, before * -jnp.expm1(-optical), 0.0)
    return Composite(
        rgb=jnp.sum(weight[..., None] * rgb, axis=1),
        alpha=jnp.sum(weight, axis=1),
        depth=jnp.sum(weight * t, axis=1),
        ambient=jnp.sum(jnp.where(visited, ambient, 0.0), axis=1),
    )
