"""Running the trained speech-to-motion networks on a whole recording, whatever its length."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.models.audio2motion import STRIDE, Audio2Motion, position_noise
from geneface_jax.models.postnet import CNNPostNet

BUCKET = 64
"""Video frames: lengths are rounded up to a multiple of it, so that few lengths are ever compiled."""


def generate(
    network: Audio2Motion,
    variables: dict[str, Any],
    audio: np.ndarray,
    silence: np.ndarray,
    rng: jax.Array,
    temperature: float,
    postnet: tuple[CNNPostNet, dict[str, Any]] | None = None,
) -> np.ndarray:
    """Speech -> motion in network space.

    Args:
      network, variables: the VAE and its {"params", "batch_stats"}.
      audio: [2T, C] model audio, T >= 1.
      silence: [C] model audio of silence; the recording is padded with it, and so is heard to begin and end in silence.
      rng: key; the noise of a moment is a function of (rng, moment).
      temperature: scale of the prior noise; 0 gives the most likely motion.
      postnet: (module, variables) applied to the VAE's output, or None.

    Returns:
      [T, 204] float32.
    """
    frames = len(audio) // 2
    # At least one latent frame of silence at the end, so that a length of exactly one bucket is treated like any other.
    padded = -(-(frames + STRIDE) // BUCKET) * BUCKET
    tail = np.broadcast_to(silence, (2 * padded - 2 * frames, audio.shape[-1]))
    motion = _generate(network, variables, np.concatenate([audio[: 2 * frames], tail])[None], rng, temperature)
    if postnet is not None:
        motion = _refine(*postnet, motion)
    return np.asarray(motion[0, :frames])


@functools.partial(jax.jit, static_argnums=0)
def _generate(network: Audio2Motion, variables: dict[str, Any], audio: jax.Array, rng: jax.Array, temperature: jax.Array) -> jax.Array:
    noise = position_noise(rng, 0, audio.shape[1] // (2 * STRIDE), network.latent)[None]
    return network.apply(variables, audio, temperature * noise, method=Audio2Motion.generate)


@functools.partial(jax.jit, static_argnums=0)
def _refine(network: CNNPostNet, variables: dict[str, Any], motion: jax.Array) -> jax.Array:
    return network.apply(variables, jnp.asarray(motion))
