"""Losses of the speech-to-motion networks. Masks are [B, T] of 0/1; D is the width of the motion.

Inside a mapped step the mean over devices of a masked loss is the loss of the whole batch, however its frames are spread.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_jax.training.devices import mean_where_mapped


def masked_mse(prediction: jax.Array, truth: jax.Array, mask: jax.Array, weights: jax.Array | float = 1.0) -> jax.Array:
    """Mean squared error over the unmasked frames of [B, T, D]; `weights` ([D] or a number) are of the squares."""
    return jnp.sum(jnp.square((prediction - truth) * mask[..., None]) * weights) / (_frames(mask) * truth.shape[-1])


def continuity(prediction: jax.Array, truth: jax.Array, mask: jax.Array) -> jax.Array:
    """Squared error of the frame-to-frame differences, plus that of the first frame; divided as `masked_mse`.

    A frame counts by its own mask (the difference to its predecessor), as in GeneFace; the first frame is always counted.
    """
    steps = (jnp.diff(prediction, axis=1) - jnp.diff(truth, axis=1)) * mask[:, 1:, None]
    first = prediction[:, 0] - truth[:, 0]
    return (jnp.sum(jnp.square(steps)) + jnp.sum(jnp.square(first))) / (_frames(mask) * truth.shape[-1])


def kl_single_sample(mean: jax.Array, log_std: jax.Array, z: jax.Array, z_prior: jax.Array, mask: jax.Array) -> jax.Array:
    """One-sample estimate of KL(posterior || flow prior), per latent frame and channel; the flow preserves volume.

    Args:
      mean, log_std, z, z_prior: [B, T', latent]. mask: [B, T', 1].
    """
    log_posterior = -0.5 * jnp.square((z - mean) * jnp.exp(-log_std)) - log_std
    log_prior = -0.5 * jnp.square(z_prior)
    return jnp.sum((log_posterior - log_prior) * mask) / _frames(mask) / mean.shape[-1]


def sync_bce(cosine: jax.Array, label: jax.Array | float) -> jax.Array:
    """Binary cross-entropy of a cosine in [0, 1]; logarithms end at -100 and the gradient stays finite, as in torch.nn.BCELoss.

    Args:
      cosine: [N]. label: [N] or a number, 1 = in sync.
    """
    return jnp.mean(_bce(jnp.clip(cosine, 0.0, 1.0), jnp.broadcast_to(jnp.asarray(label, cosine.dtype), cosine.shape)))


@jax.custom_vjp
def _bce(probability: jax.Array, label: jax.Array) -> jax.Array:
    log_yes = jnp.maximum(jnp.log(jnp.maximum(probability, 1e-45)), -100.0)
    log_no = jnp.maximum(jnp.log(jnp.maximum(1.0 - probability, 1e-45)), -100.0)
    return -(label * log_yes + (1.0 - label) * log_no)


def _bce_forward(probability: jax.Array, label: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _bce(probability, label), (probability, label)


def _bce_backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, None]:
    probability, label = saved
    return cotangent * (probability - label) / jnp.maximum(probability * (1.0 - probability), 1e-12), None


_bce.defvjp(_bce_forward, _bce_backward)


def lsgan_generator(score_fake: jax.Array, mask: jax.Array) -> jax.Array:
    """mean((1 - D(fake))^2) over unmasked frames [B, T]."""
    return masked_mean(jnp.square(1.0 - score_fake), mask)


def lsgan_discriminator(
    score_fake: jax.Array, mask_fake: jax.Array, score_true: jax.Array, mask_true: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(mean(D(fake)^2), mean((D(true) - 1)^2)) over unmasked frames."""
    return masked_mean(jnp.square(score_fake), mask_fake), masked_mean(jnp.square(score_true - 1.0), mask_true)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of [B, T] over unmasked frames."""
    return jnp.sum(values * mask) / _frames(mask)


def _frames(mask: jax.Array) -> jax.Array:
    return jnp.maximum(mean_where_mapped(jnp.sum(mask)), 1.0)
