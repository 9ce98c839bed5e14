"""Losses of the radiance fields (RAD-NeRF section 3.4; weights in the configs)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_jax.training.devices import mean_where_mapped


def psnr(mse: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of a mean squared error on [0, 1] colours."""
    return -10.0 * jnp.log10(jnp.maximum(mse, 1e-10))


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of values [N] where mask [N] is 1; 0 where it is 1 nowhere. Inside a mapped step its mean over devices is the batch's mean."""
    return jnp.sum(values * mask) / jnp.maximum(mean_where_mapped(jnp.sum(mask)), 1.0)


def opacity_entropy(alpha: jax.Array) -> jax.Array:
    """Binary entropy in bits [N] of opacities [N]: its mean pushes rays to be either solid or empty."""
    a = jnp.clip(alpha, 1e-5, 1.0 - 1e-5)
    return -a * jnp.log2(a) - (1.0 - a) * jnp.log2(1.0 - a)


def ambient_outside_face(ambient: jax.Array, in_face: jax.Array) -> jax.Array:
    """Ambient motion [N] of rays outside the face [N]: hair and neck must not follow the lips."""
    return ambient * (1.0 - in_face)


def adapted_weight(weight: jax.Array, loss: jax.Array, target: float, rate: float, most: float) -> jax.Array:
    """A weight that keeps a loss near a target (GeneFace++'s ambient weight): it moves by `rate` times the decades between the two.

    Args:
      weight, loss: [].
      target: where the loss should be.
      rate: 0 leaves the weight as it is.
      most: upper limit; the lower one is 0.

    Returns:
      [] the next weight; the same one where the loss is not finite (the original stumbles over it).
    """
    decades = jnp.log10(loss + 1e-15) - jnp.log10(target + 1e-15)
    return jnp.clip(weight + rate * jnp.where(jnp.isfinite(decades), decades, 0.0), 0.0, most)
