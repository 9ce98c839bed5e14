"""What an audio2motion VAE hears: audio alone (GeneFace), or audio, pitch, blinks and amplitudes (GeneFace's pitch variant, GeneFace++)."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.layers_1d import BatchNorm1d, Conv1d, uniform_fan_in

N_PITCH = 300
"""Rows of the pitch embedding; bins 1 to 255 are used."""

F0_LOW, F0_HIGH, TOP_BIN = 50.0, 1100.0, 255
TYPICAL_AMPLITUDE = 0.4
"""Amplitudes where none are given (GeneFace++): decimetres between the outer lips of somebody who speaks, see `data.behaviour`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Voice:
    """What the pitch-aware VAE is told beside the audio features.

    Attributes:
      f0: [B, 2T] Hz at the audio rate, 0 = unvoiced.
      blink: [B, T] integers, 1 = the middle of a blink.
      mouth_amp, eye_amp: [B] how far mouth and lids open, decimetres.
    """

    f0: jax.Array
    blink: jax.Array
    mouth_amp: jax.Array
    eye_amp: jax.Array

    @classmethod
    def of(cls, f0: jax.Array, mouth_amp: float | jax.Array = TYPICAL_AMPLITUDE, eye_amp: float | jax.Array = TYPICAL_AMPLITUDE) -> Voice:
        """Speech f0 [B, 2T] whose face is not known: it never blinks, and all items have these amplitudes."""
        batch, frames = f0.shape
        amplitudes = (jnp.broadcast_to(jnp.asarray(value, jnp.float32), (batch,)) for value in (mouth_amp, eye_amp))
        return cls(f0, jnp.zeros((batch, frames // 2), jnp.int32), *amplitudes)


def pitch_bins(f0: jax.Array) -> jax.Array:
    """f0 in Hz (any shape, 0 = unvoiced) -> int32 bins 1..255 (GeneFace's `f0_to_coarse`).

    Equal steps of mel = 1127 ln(1 + f0 / 700) from 50 Hz (bin 1) to 1100 Hz (bin 255), rounded half up; beyond them the ends hold.
    Unvoiced is bin 1 too.
    """
    mel = 1127.0 * jnp.log1p(f0 / 700.0)
    low, high = (1127.0 * jnp.log1p(hz / 700.0) for hz in (F0_LOW, F0_HIGH))
    bins = jnp.where(mel > 0, (mel - low) * ((TOP_BIN - 1) / (high - low)) + 1.0, 1.0)
    return jnp.floor(jnp.clip(bins, 1.0, TOP_BIN) + 0.5).astype(jnp.int32)


def pair_audio(audio: jax.Array, how: str) -> jax.Array:
    """Two audio frames -> one video frame.

    Args:
      audio: [B, 2T, C].
      how: "even" keeps frames 0, 2, 4, ... (the original, for features with a wide view such as HuBERT) -> [B, T, C]; "stack" keeps both,
        side by side -> [B, T, 2C].
    """
    if how == "even":
        return audio[:, ::2]
    if how == "stack":
        batch, frames, channels = audio.shape
        return audio.reshape(batch, frames // 2, 2 * channels)
    raise ValueError(f'pairing must be "even" or "stack", not {how!r}')


class ConditionEncoder(nn.Module):
    """A sequence at the video rate -> condition: conv, batch norm, exact GELU, conv. Not masked.

    Attributes:
      features: width of the result.
      axis_name: mapped axis over which batch statistics are shared, or None.
      hidden: width inside; None is that of the result.
    """

    features: int
    axis_name: str | None = None
    hidden: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv1d(self.hidden or self.features, 3, use_bias=False, name="conv_in")(x)
        x = BatchNorm1d(self.axis_name, name="norm")(x, train)
        return Conv1d(self.features, 3, use_bias=False, name="conv_out")(nn.gelu(x, approximate=False))


class VoiceEncoder(nn.Module):
    """Joins pitch, and in GeneFace++ blinks and amplitudes, to the condition of the audio.

    With neither blink nor amplitude the result is [audio, pitch] side by side (GeneFace's pitch variant), else one linear layer brings
    [audio, pitch, blink, mouth, eyes] to the audio's width.

    Attributes:
      features: width of the audio's condition, and of every embedding.
      pitch: width of the encoded pitch.
      blink, mouth_amp, eye_amp: whether they are heard.
      pairing: how two f0 frames become one, see `pair_audio`.
      axis_name: mapped axis over which batch statistics are shared, or None.
    """

    features: int
    pitch: int
    blink: bool
    mouth_amp: bool
    eye_amp: bool
    pairing: str
    axis_name: str | None = None

    @nn.compact
    def __call__(self, audio: jax.Array, voice: Voice, train: bool) -> jax.Array:
        """[B, T, features] and a voice -> [B, T, features], or [B, T, features + pitch] with pitch alone."""
        normal = nn.initializers.normal(self.features**-0.5)
        pitch = nn.Embed(N_PITCH, self.features, embedding_init=normal, name="pitch_embedding")(pitch_bins(voice.f0))
        encoder = ConditionEncoder(self.pitch, self.axis_name, self.features, name="pitch_encoder")
        heard = [audio, encoder(pair_audio(pitch, self.pairing), train)]
        if self.blink:
            heard.append(nn.Embed(2, self.features, embedding_init=normal, name="blink_embedding")(voice.blink))
        for name, wanted, amplitude in (("mouth_amp", self.mouth_amp, voice.mouth_amp), ("eye_amp", self.eye_amp, voice.eye_amp)):
            if wanted:
                direction = self.param(name, nn.initializers.normal(1.0), (self.features,))
                heard.append(jnp.broadcast_to(amplitude[:, None, None] * direction, audio.shape))
        joined = jnp.concatenate(heard, axis=-1)
        if not (self.blink or self.mouth_amp or self.eye_amp):
            return joined
        init = uniform_fan_in(joined.shape[-1])
        return nn.Dense(self.features, kernel_init=init, bias_init=init, name="join")(joined)
