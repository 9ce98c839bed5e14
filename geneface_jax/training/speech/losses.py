"""Losses of the speech-to-motion networks. Masks are [B, T] of 0/1; D is the width of the motion.

Inside a mapped step the mean over devices of a masked loss is the loss of the whole batch (see `devices.mask_count`).
"""

import jax
import jax.numpy as jnp

from geneface_jax.training.devices import mask_count, masked_mean
from geneface_jax.typing import Array


def masked_mse(prediction: Array, truth: Array, mask: Array, weights: Array | float = 1.0) -> jax.Array:
    """Mean squared error over the unmasked frames of [B, T, D]; `weights` ([D] or a number) multiply the squares."""
    return jnp.sum(jnp.square((prediction - truth) * mask[..., None]) * weights) / (mask_count(mask) * truth.shape[-1])


def continuity(prediction: Array, truth: Array, mask: Array) -> jax.Array:
    """Squared error of the frame-to-frame differences, plus that of the first frame; normalized as `masked_mse`.

    A difference is masked by its later frame, as in GeneFace; the first frame is always counted.
    """
    steps = (jnp.diff(prediction, axis=1) - jnp.diff(truth, axis=1)) * mask[:, 1:, None]
    first = prediction[:, 0] - truth[:, 0]
    return (jnp.sum(jnp.square(steps)) + jnp.sum(jnp.square(first))) / (mask_count(mask) * truth.shape[-1])


def kl_single_sample(mean: Array, log_std: Array, z: Array, z_prior: Array, mask: Array) -> jax.Array:
    """One-sample estimate of KL(posterior || flow prior), per latent frame and channel; the flow preserves volume. All are
    [B, T', latent], the mask [B, T', 1]."""
    log_posterior = -0.5 * jnp.square((z - mean) * jnp.exp(-log_std)) - log_std
    log_prior = -0.5 * jnp.square(z_prior)
    return jnp.sum((log_posterior - log_prior) * mask) / mask_count(mask) / mean.shape[-1]


def sync_bce(cosine: Array, label: Array | float) -> jax.Array:
    """Binary cross-entropy of cosines [N] in [0, 1] and labels (1 = in sync); logarithms are at least -100 and the gradient is finite, as
    in torch.nn.BCELoss."""
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


def lsgan_generator(score_fake: Array, mask: Array) -> jax.Array:
    """mean((1 - D(fake))^2) over unmasked frames [B, T]."""
    return masked_mean(jnp.square(1.0 - score_fake), mask)


def lsgan_discriminator(score_fake: Array, mask_fake: Array, score_true: Array, mask_true: Array) -> tuple[jax.Array, jax.Array]:
    """(mean(D(fake)^2), mean((D(true) - 1)^2)) over unmasked frames."""
    return masked_mean(jnp.square(score_fake), mask_fake), masked_mean(jnp.square(score_true - 1.0), mask_true)
