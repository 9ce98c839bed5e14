"""The audio2motion VAE: speech condition (audio, pitch, blink, amplitude), WaveNet stacks, flow prior (GeneFace's VAEModel, GeneFace++'s
pitch-aware variant).
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.layers import BatchNorm1d, Conv1d, Upsample1d, WeightNormConv1d, uniform_fan_in

# ----------------------------------------------------------------------------------------------------
# What an audio2motion VAE hears: audio alone (GeneFace), or audio, pitch, blinks and amplitudes (GeneFace's pitch variant, GeneFace++).

N_PITCH = 300
"""Rows of the pitch embedding; bins 1 to 255 are used."""

F0_LOW, F0_HIGH, TOP_BIN = 50.0, 1100.0, 255
TYPICAL_AMPLITUDE = 0.4
"""Amplitudes where none are given (GeneFace++): decimetres between the outer lips of somebody who speaks, see `data.motion`."""


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


class SpeechConditionEncoder(nn.Module):
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
        encoder = SpeechConditionEncoder(self.pitch, self.axis_name, self.features, name="pitch_encoder")
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


# ----------------------------------------------------------------------------------------------------
# The WaveNet stack of the audio2motion VAE: gated convolutions with a condition, residual and skip paths (Glow-TTS / VITS).


class WaveNet(nn.Module):
    """x, g -> sum of the layers' skip outputs, times the mask. Dilation 1, no dropout, every convolution weight-normalised.

    Attributes:
      hidden: channels of x and of the output.
      layers: number of gated layers.
      kernel_size: odd taps of the gated convolutions.
    """

    hidden: int
    layers: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, condition: jax.Array) -> jax.Array:
        """Args: x [B, T, hidden]; mask [B, T, 1] of 0/1; condition [B, T, G]. Returns [B, T, hidden]."""
        conditions = WeightNormConv1d(2 * self.hidden * self.layers, name="condition")(condition)
        output = jnp.zeros_like(x)
        for i in range(self.layers):
            gates = WeightNormConv1d(2 * self.hidden, self.kernel_size, name=f"gates_{i}")(x)
            gates = gates + conditions[..., 2 * self.hidden * i : 2 * self.hidden * (i + 1)]
            signal, gate = jnp.split(gates, 2, axis=-1)
            activation = jnp.tanh(signal) * nn.sigmoid(gate)
            last = i == self.layers - 1
            update = WeightNormConv1d(self.hidden if last else 2 * self.hidden, name=f"residual_skip_{i}")(activation)
            if last:
                output = output + update
            else:
                x = (x + update[..., : self.hidden]) * mask
                output = output + update[..., self.hidden :]
        return output * mask


# ----------------------------------------------------------------------------------------------------
# The prior flow of the audio2motion VAE: volume-preserving couplings between the posterior and a standard normal (Glow-TTS / VITS).


class MeanCoupling(nn.Module):
    """Shifts the second half of the channels by a function of the first half and the condition; its log-determinant is 0.

    Starts as the identity (the last layer starts at zero). The first half passes unmasked, as in the original.
    """

    hidden: int
    layers: int
    kernel_size: int

    @nn.compact
    def __call__(self, z: jax.Array, mask: jax.Array, condition: jax.Array, inverse: bool) -> jax.Array:
        first, second = jnp.split(z, 2, axis=-1)
        h = Conv1d(self.hidden, name="pre")(first) * mask
        h = WaveNet(self.hidden, self.layers, self.kernel_size, name="wavenet")(h, mask, condition)
        shift = Conv1d(second.shape[-1], zero_init=True, name="post")(h) * mask
        second = (second - shift) * mask if inverse else shift + second * mask
        return jnp.concatenate([first, second], axis=-1)


class PriorFlow(nn.Module):
    """A chain of couplings, the channel order reversed after each.

    Attributes:
      blocks: number of couplings.
      hidden, layers, kernel_size: of each coupling's WaveNet.
    """

    blocks: int = 4
    hidden: int = 64
    layers: int = 4
    kernel_size: int = 3

    @nn.compact
    def __call__(self, z: jax.Array, mask: jax.Array, condition: jax.Array, inverse: bool = False) -> jax.Array:
        """Maps posterior -> prior, or prior -> posterior with `inverse`.

        Args:
          z: [B, T, C], C even. mask: [B, T, 1] of 0/1. condition: [B, T, G].

        Returns:
          [B, T, C]; where the mask is 1, `inverse` undoes the forward map.
        """
        couplings = [MeanCoupling(self.hidden, self.layers, self.kernel_size, name=f"coupling_{i}") for i in range(self.blocks)]
        if inverse:
            for coupling in reversed(couplings):
                z = coupling(z[..., ::-1], mask, condition, inverse=True)
            return z
        for coupling in couplings:
            z = coupling(z, mask, condition, inverse=False)[..., ::-1]
        return z


# ----------------------------------------------------------------------------------------------------
# The audio2motion VAE: speech -> landmarks, with a flow prior (GeneFace's VAEModel, and PitchContourVAEModel; both are an FVAE).

STRIDE = 4
"""Video frames per latent frame: sequence lengths are multiples of it."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posterior:
    """What a training pass knows beside the reconstruction. All [B, T/4, latent] except mask [B, T/4, 1].

    `log_std` is log sigma (not log sigma^2). `z` is the sample, `z_prior` its image under the flow.
    """

    mean: jax.Array
    log_std: jax.Array
    z: jax.Array
    z_prior: jax.Array
    mask: jax.Array


class Audio2Motion(nn.Module):
    """Conditional VAE over [T, motion_dim] with a latent frame every 4 video frames.

    The defaults are the original's, which hears audio alone. With `pitch` it is pitch-aware and needs a `Voice` wherever it gets audio:
    GeneFace's pitch variant has pitch 32; GeneFace++ has condition 128, pitch 128 and blink, mouth_amp, eye_amp as a checkpoint was made.
    T must be a multiple of 4.

    Attributes:
      motion_dim: D of the landmarks, 204.
      condition: width of the condition (`gin`).
      hidden, kernel_size: of the encoder's and decoder's WaveNets.
      encoder_layers, decoder_layers: their depths.
      latent: channels of z.
      flow_blocks, flow_hidden, flow_layers, flow_kernel_size: the prior flow.
      pairing: how two audio frames become one, see `pair_audio`.
      pitch: width of the encoded pitch; 0 hears audio alone, whatever the three below say.
      blink, mouth_amp, eye_amp: whether they are heard, see `VoiceEncoder`.
      axis_name: mapped axis over which batch statistics are shared, or None.
    """

    motion_dim: int = 204
    condition: int = 64
    hidden: int = 256
    kernel_size: int = 5
    encoder_layers: int = 8
    decoder_layers: int = 4
    latent: int = 16
    flow_blocks: int = 4
    flow_hidden: int = 64
    flow_layers: int = 4
    flow_kernel_size: int = 3
    pairing: str = "even"
    pitch: int = 0
    blink: bool = False
    mouth_amp: bool = False
    eye_amp: bool = False
    axis_name: str | None = None

    def setup(self) -> None:
        self.condition_encoder = SpeechConditionEncoder(self.condition, self.axis_name)
        joined = self.blink or self.mouth_amp or self.eye_amp
        if self.pitch:
            flags = self.blink, self.mouth_amp, self.eye_amp
            self.voice_encoder = VoiceEncoder(self.condition, self.pitch, *flags, self.pairing, self.axis_name)
        self.condition_down = Conv1d(self.condition + (0 if joined else self.pitch), 2 * STRIDE, STRIDE, STRIDE // 2)
        self.encoder_down = Conv1d(self.hidden, 2 * STRIDE, STRIDE, STRIDE // 2)
        self.encoder_wavenet = WaveNet(self.hidden, self.encoder_layers, self.kernel_size)
        self.encoder_out = Conv1d(2 * self.latent)
        self.flow = PriorFlow(self.flow_blocks, self.flow_hidden, self.flow_layers, self.flow_kernel_size)
        self.decoder_up = Upsample1d(self.hidden, STRIDE)
        self.decoder_wavenet = WaveNet(self.hidden, self.decoder_layers, self.kernel_size)
        self.decoder_out = Conv1d(self.motion_dim)

    def conditions(self, audio: jax.Array, train: bool = False, voice: Voice | None = None) -> tuple[jax.Array, jax.Array]:
        """[B, 2T, C] (and a voice) -> the condition at the video rate [B, T, G] and at the latent rate [B, T/4, G].

        Raises:
          ValueError: the network is pitch-aware and there is no voice.
        """
        condition = self.condition_encoder(pair_audio(audio, self.pairing), train)
        if self.pitch:
            if voice is None:
                raise ValueError("a pitch-aware audio2motion VAE needs a voice beside the audio")
            condition = self.voice_encoder(condition, voice, train)
        return condition, self.condition_down(condition)

    def encode(self, motion: jax.Array, mask: jax.Array, condition_down: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Posterior mean and log sigma [B, T/4, latent] of motion [B, T, D]; mask [B, T/4, 1]. Neither is masked (the loss masks)."""
        x = self.encoder_down(motion) * mask
        x = self.encoder_wavenet(x, mask, condition_down) * mask
        mean, log_std = jnp.split(self.encoder_out(x), 2, axis=-1)
        return mean, log_std

    def decode(self, z: jax.Array, mask: jax.Array, condition: jax.Array) -> jax.Array:
        """[B, T/4, latent] -> motion [B, T, D] (unmasked at the very end); mask [B, T, 1]."""
        x = self.decoder_up(z) * mask
        return self.decoder_out(self.decoder_wavenet(x, mask, condition) * mask)

    def __call__(
        self,
        motion: jax.Array,
        mask: jax.Array,
        audio: jax.Array,
        noise: jax.Array,
        train: bool = False,
        voice: Voice | None = None,
    ) -> tuple[jax.Array, Posterior]:
        """The training pass.

        Args:
          motion: [B, T, D], the truth. mask: [B, T] of 0/1. audio: [B, 2T, C].
          noise: [B, T/4, latent], standard normal, of the posterior's sample.
          train: whether batch norm uses and updates batch statistics.
          voice: of the audio, for a pitch-aware network; others do not look at it.

        Returns:
          (reconstruction [B, T, D], zero where the mask is; the posterior).
        """
        condition, condition_down = self.conditions(audio, train, voice)
        mask = mask[..., None]
        mask_down = mask[:, ::STRIDE]
        mean, log_std = self.encode(motion, mask_down, condition_down)
        z = mean + noise * jnp.exp(log_std)
        z_prior = self.flow(z, mask_down, condition_down)
        return self.decode(z, mask, condition) * mask, Posterior(mean, log_std, z, z_prior, mask_down)

    def generate(self, audio: jax.Array, z_prior: jax.Array, voice: Voice | None = None) -> jax.Array:
        """Speech alone -> motion, with running batch statistics.

        Args:
          audio: [B, 2T, C]. z_prior: [B, T/4, latent], standard normal times the temperature. voice: as in a training pass.

        Returns:
          [B, T, D].
        """
        condition, condition_down = self.conditions(audio, voice=voice)
        ones = jnp.ones((*audio.shape[:1], audio.shape[1] // 2, 1), audio.dtype)
        z = self.flow(z_prior, ones[:, ::STRIDE], condition_down, inverse=True)
        return self.decode(z, ones, condition)


def position_noise(rng: jax.Array, start: int | jax.Array, length: int, latent: int) -> jax.Array:
    """[length, latent] standard normal draws for the latent frames start, start + 1, ...

    Every position has its own draw, so that the noise at a moment does not depend on how the audio was cut or padded.
    """
    keys = jax.vmap(lambda position: jax.random.fold_in(rng, position))(start + jnp.arange(length))
    return jax.vmap(lambda key: jax.random.normal(key, (latent,)))(keys)
