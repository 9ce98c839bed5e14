"""One gradient of the audio2motion VAE: shared by its own stage and by PostNet's fine-tuning on one person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from geneface_jax.models.audio2motion import STRIDE, Audio2Motion, Voice
from geneface_jax.training import devices
from geneface_jax.training.speech.losses import continuity, kl_single_sample, masked_mse
from geneface_jax.training.speech.sync import SyncExpert


def build_network(model: ConfigDict, axis_name: str | None = None) -> Audio2Motion:
    """The VAE of a model config, whose keys are the module's attributes."""
    return Audio2Motion(**model.to_dict(), axis_name=axis_name)


def voice_of(batch: Mapping[str, jax.Array]) -> Voice:
    """The voice of a batch of windows (`data.audio_batches`)."""
    return Voice(batch["f0"], batch["blink"], batch["mouth_amp"], batch["eye_amp"])


def item_noise(rng: jax.Array, indices: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[B, *shape] standard normal; an item's draw depends on its number in the global batch alone."""
    return jax.vmap(lambda index: jax.random.normal(jax.random.fold_in(rng, index), shape))(indices)


def vae_gradients(
    network: Audio2Motion,
    variables: Mapping[str, Any],
    batch: Mapping[str, jax.Array],
    indices: jax.Array,
    weights: Mapping[str, Any],
    rng: jax.Array,
    expert: SyncExpert | None,
    std: jax.Array,
    clips_per_item: int,
    train_statistics: bool = True,
) -> tuple[Any, dict[str, jax.Array], Any]:
    """Gradient, losses and new batch statistics, averaged over devices.

    Args:
      network: the VAE with `axis_name=devices.AXIS`.
      variables: {"params", "batch_stats"}.
      batch: audio [B, 2T, C], motion [B, T, 204], mask [B, T], and the parts of the voice (`voice_of`).
      indices: [B] numbers of the items in the global batch, for random draws.
      weights: of `mse`, `continuity`, `kl`, `sync` (numbers or traced scalars).
      rng: key, the same on all devices.
      expert: the frozen SyncNet, or None (then `sync` is 0).
      std: [204] scale of the batch's network space.
      clips_per_item: clips judged by the expert in each item.
      train_statistics: False keeps batch norm at its running statistics.
    """
    rng_noise, rng_clips = jax.random.split(rng)
    noise = item_noise(rng_noise, indices, (batch["mask"].shape[1] // STRIDE, network.latent))

    def loss_fn(params):
        collections = {"params": params, "batch_stats": variables["batch_stats"]}
        (prediction, posterior), updates = network.apply(
            collections,
            batch["motion"],
            batch["mask"],
            batch["audio"],
            noise,
            train=train_statistics,
            voice=voice_of(batch),
            mutable=["batch_stats"],
        )
        losses = {
            "mse": masked_mse(prediction, batch["motion"], batch["mask"]),
            "continuity": continuity(prediction, batch["motion"], batch["mask"]),
            "kl": kl_single_sample(posterior.mean, posterior.log_std, posterior.z, posterior.z_prior, posterior.mask),
            "sync": jnp.zeros(()),
        }
        if expert is not None:
            losses["sync"] = expert.loss(rng_clips, indices, batch["audio"], prediction, std, batch["mask"], clips_per_item)
        total = sum(weights[name] * value for name, value in losses.items())
        return total, (losses, updates["batch_stats"])

    grads, (losses, batch_stats) = jax.grad(loss_fn, has_aux=True)(variables["params"])
    return devices.mean(grads), devices.mean(losses), devices.mean(batch_stats)
