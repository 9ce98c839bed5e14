"""Running the trained speech-to-motion networks on a recording of any length."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.typing import Array, Float

from geneface_jax.models.audio2motion import STRIDE, TYPICAL_AMPLITUDE, Audio2Motion, Voice, position_noise
from geneface_jax.models.postnet import CNNPostNet

BUCKET = 64
"""Lengths are padded to a multiple of this number of video frames, so that few lengths are compiled."""


def generate(
    network: Audio2Motion,
    variables: dict[str, Any],
    audio: Float[Array, "A C"],
    silence: Float[Array, " C"],
    rng: jax.Array,
    temperature: float,
    postnet: tuple[CNNPostNet, dict[str, Any]] | None = None,
    voice: Voice | None = None,
    start: int = 0,
) -> Float[np.ndarray, "T D"]:
    """Motion of speech, float32 in the networks' normalized space, T = A // 2 frames.

    Args:
      network, variables: the VAE and its {"params", "batch_stats"}.
      audio: model audio of at least one video frame.
      silence: model audio of silence, the padding after the recording.
      rng: key; the noise of a frame depends on the key and the frame's position alone.
      temperature: scale of the prior noise; 0 gives the most likely motion.
      postnet: (module, variables) applied to the VAE's output, or None.
      voice: of the audio, batch size 1; needed by a pitch-aware VAE, ignored by others.
      start: position (video frame, a multiple of 4) of the audio within a longer recording; selects the noise.
    """
    frames = len(audio) // 2
    # At least one latent frame of silence at the end, so that a length of exactly one bucket is no special case.
    padded = -(-(frames + STRIDE) // BUCKET) * BUCKET
    tail = np.broadcast_to(silence, (2 * padded - 2 * frames, audio.shape[-1]))
    if voice is not None:
        voice = dataclasses.replace(voice, f0=_pad(voice.f0, 2 * padded), blink=_pad(voice.blink, padded))
    motion = _generate(network, variables, np.concatenate([audio[: 2 * frames], tail])[None], rng, temperature, voice, start // STRIDE)
    if postnet is not None:
        motion = _refine(*postnet, motion)
    return np.asarray(motion[0, :frames])


def typical_voice(f0: Float[Array, "B A"], constants: Mapping[str, Any], mouth_amp: float = TYPICAL_AMPLITUDE) -> Voice:
    """The voice of speech at inference: without blinks (as in the originals, blinks are added later).

    Args:
      f0: Hz at the audio rate.
      constants: may hold the typical `mouth_amp` and `eye_amp` of a network's training data. An imported network has none: then 0.4 and
        1, GeneFace++'s values.
      mouth_amp: 0.4 is the typical amplitude of the mouth, 0.8 twice that.
    """
    mouth, eyes = constants.get("mouth_amp", TYPICAL_AMPLITUDE), constants.get("eye_amp", 1.0)
    return Voice.of(jnp.asarray(f0, jnp.float32), mouth * (mouth_amp / TYPICAL_AMPLITUDE), eyes)


def _pad(values: Array, length: int) -> np.ndarray:
    """[1, N] -> [1, length], truncated or zero-padded."""
    truncated = np.asarray(values)[:, :length]
    return np.pad(truncated, ((0, 0), (0, length - truncated.shape[1])))


@functools.partial(jax.jit, static_argnums=0)
def _generate(
    network: Audio2Motion,
    variables: dict[str, Any],
    audio: Float[Array, "B A C"],
    rng: jax.Array,
    temperature: Array,
    voice: Voice | None,
    start: Array,
) -> Any:
    noise = position_noise(rng, start, audio.shape[1] // (2 * STRIDE), network.latent)[None]
    return network.apply(variables, audio, temperature * noise, voice, method=Audio2Motion.generate)


@functools.partial(jax.jit, static_argnums=0)
def _refine(network: CNNPostNet, variables: dict[str, Any], motion: Float[Array, "B T D"]) -> Any:
    return network.apply(variables, motion)
