"""Running the trained speech-to-motion networks on a whole recording, whatever its length."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.models.audio2motion import STRIDE, TYPICAL_AMPLITUDE, Audio2Motion, Voice, position_noise
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
    voice: Voice | None = None,
    start: int = 0,
) -> np.ndarray:
    """Speech -> motion in network space.

    Args:
      network, variables: the VAE and its {"params", "batch_stats"}.
      audio: [2T, C] model audio, T >= 1.
      silence: [C] model audio of silence; the recording is padded with it, and so is heard to begin and end in silence.
      rng: key; the noise of a moment is a function of (rng, moment).
      temperature: scale of the prior noise; 0 gives the most likely motion.
      postnet: (module, variables) applied to the VAE's output, or None.
      voice: of the audio, batch size 1; a pitch-aware VAE needs it, others do not look at it.
      start: video frame, a multiple of 4, that the audio begins with where it is a part of a longer recording: the noise is that moment's.

    Returns:
      [T, 204] float32.
    """
    frames = len(audio) // 2
    # At least one latent frame of silence at the end, so that a length of exactly one bucket is treated like any other.
    padded = -(-(frames + STRIDE) // BUCKET) * BUCKET
    tail = np.broadcast_to(silence, (2 * padded - 2 * frames, audio.shape[-1]))
    if voice is not None:
        f0, blink = (_with_defaults(values, length) for values, length in ((voice.f0, 2 * padded), (voice.blink, padded)))
        voice = dataclasses.replace(voice, f0=f0, blink=blink)
    motion = _generate(network, variables, np.concatenate([audio[: 2 * frames], tail])[None], rng, temperature, voice, start // STRIDE)
    if postnet is not None:
        motion = _refine(*postnet, motion)
    return np.asarray(motion[0, :frames])


def typical_voice(f0: np.ndarray | jax.Array, constants: Mapping[str, Any], mouth_amp: float = TYPICAL_AMPLITUDE) -> Voice:
    """The voice of speech whose face is to be made: it never blinks (the originals', blinks are added later).

    Args:
      f0: [B, 2T] Hz.
      constants: may hold the `mouth_amp` and `eye_amp` that are typical of the faces a network was trained on. An imported network has
        none; then 0.4 and 1, as GeneFace++ has it.
      mouth_amp: 0.4 is the typical amplitude of the mouth, 0.8 twice that.
    """
    mouth, eyes = constants.get("mouth_amp", TYPICAL_AMPLITUDE), constants.get("eye_amp", 1.0)
    return Voice.of(jnp.asarray(f0, jnp.float32), mouth * (mouth_amp / TYPICAL_AMPLITUDE), eyes)


def _with_defaults(values: jax.Array, length: int) -> np.ndarray:
    """[1, N] -> [1, length]: cut, or zeros after the last."""
    values = np.asarray(values)[:, :length]
    return np.pad(values, ((0, 0), (0, length - values.shape[1])))


@functools.partial(jax.jit, static_argnums=0)
def _generate(
    network: Audio2Motion,
    variables: dict[str, Any],
    audio: jax.Array,
    rng: jax.Array,
    temperature: jax.Array,
    voice: Voice | None,
    start: jax.Array,
) -> jax.Array:
    noise = position_noise(rng, start, audio.shape[1] // (2 * STRIDE), network.latent)[None]
    return network.apply(variables, audio, temperature * noise, voice, method=Audio2Motion.generate)


@functools.partial(jax.jit, static_argnums=0)
def _refine(network: CNNPostNet, variables: dict[str, Any], motion: jax.Array) -> jax.Array:
    return network.apply(variables, jnp.asarray(motion))
