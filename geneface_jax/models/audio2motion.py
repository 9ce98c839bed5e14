"""The audio2motion VAE: speech -> landmarks, with a flow prior (GeneFace's VAEModel, and PitchContourVAEModel; both are an FVAE)."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.flow import PriorFlow
from geneface_jax.models.layers_1d import Conv1d, Upsample1d
from geneface_jax.models.speech_condition import ConditionEncoder, Voice, VoiceEncoder, pair_audio
from geneface_jax.models.wavenet import WaveNet

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
        self.condition_encoder = ConditionEncoder(self.condition, self.axis_name)
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
