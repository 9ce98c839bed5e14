"""The audio2motion VAE (GeneFace's VAEModel, GeneFace++'s pitch-aware variant), and running it with PostNet on whole recordings."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.typing import Array, Float, Integer, Num

from geneface_jax.models.layers import BatchNorm1d, Conv1d, Upsample1d, WeightNormConv1d, uniform_fan_in
from geneface_jax.models.postnet import CNNPostNet

# -------- Condition of the VAE: audio alone (GeneFace), or audio, pitch, blinks and amplitudes (GeneFace's pitch variant, GeneFace++)

N_PITCH = 300
"""Rows of the pitch embedding; bins 1 to 255 are used."""

F0_LOW, F0_HIGH, TOP_BIN = 50.0, 1100.0, 255
TYPICAL_AMPLITUDE = 0.4
"""Default amplitude (GeneFace++): distance between the outer lips of a speaking person in decimeters, see `data.motion`."""

Amplitude = float | np.floating | Array
"""One for all items, or [B]."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Voice:
    """Inputs of the pitch-aware VAE in addition to the audio features.

    Attributes:
      f0: Hz at the audio rate (A = 2T frames), 0 = unvoiced.
      blink: 1 = the middle of a blink.
      mouth_amp, eye_amp: opening of mouth and lids, decimeters.
    """

    f0: Float[Array, "B A"]
    blink: Integer[Array, "B T"]
    mouth_amp: Float[Array, " B"]
    eye_amp: Float[Array, " B"]

    @classmethod
    def of(cls, f0: Float[Array, "B A"], mouth_amp: Amplitude = TYPICAL_AMPLITUDE, eye_amp: Amplitude = TYPICAL_AMPLITUDE) -> "Voice":
        """The voice without blinks, and with the same amplitudes for all items: for speech without a recorded face."""
        batch, frames = f0.shape
        amplitudes = (jnp.broadcast_to(jnp.asarray(value, jnp.float32), (batch,)) for value in (mouth_amp, eye_amp))
        return cls(f0, jnp.zeros((batch, frames // 2), jnp.int32), *amplitudes)


def pitch_bins(f0: Float[Array, "*shape"]) -> Integer[jax.Array, "*shape"]:
    """Quantizes f0 in Hz (0 = unvoiced) to bins 1..255 (GeneFace's `f0_to_coarse`).

    Equal steps of mel = 1127 ln(1 + f0 / 700) from 50 Hz (bin 1) to 1100 Hz (bin 255), rounded half up and clipped. Unvoiced is bin 1 too.
    """
    mel = 1127.0 * jnp.log1p(f0 / 700.0)
    low, high = (1127.0 * jnp.log1p(hz / 700.0) for hz in (F0_LOW, F0_HIGH))
    bins = jnp.where(mel > 0, (mel - low) * ((TOP_BIN - 1) / (high - low)) + 1.0, 1.0)
    return jnp.floor(jnp.clip(bins, 1.0, TOP_BIN) + 0.5).astype(jnp.int32)


def pair_audio(audio: Float[Array, "B A C"], pairing: str) -> Float[Array, "B T D"]:
    """Reduces the audio frame rate to the video frame rate, A = 2T.

    Args:
      audio: two frames per video frame.
      pairing: "even" keeps frames 0, 2, 4, ... (the original, for features with a large receptive field such as HuBERT), D = C; "stack"
        concatenates both frames, D = 2C.
    """
    if pairing == "even":
        return audio[:, ::2]
    if pairing == "stack":
        batch, frames, channels = audio.shape
        return audio.reshape(batch, frames // 2, 2 * channels)
    raise ValueError(f'pairing must be "even" or "stack", got {pairing!r}')


class SpeechConditionEncoder(nn.Module):
    """Encodes a sequence at the video rate: convolution, batch norm, exact GELU, convolution. Not masked.

    Attributes:
      features: output width.
      axis_name: see `BatchNorm1d`.
      hidden: hidden width; None is the output width.
    """

    features: int
    axis_name: str | None = None
    hidden: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B T C"], train: bool) -> Float[jax.Array, "B T F"]:
        x = Conv1d(self.hidden or self.features, 3, use_bias=False, name="conv_in")(x)
        x = BatchNorm1d(self.axis_name, name="norm")(x, train)
        return Conv1d(self.features, 3, use_bias=False, name="conv_out")(nn.gelu(x, approximate=False))


class VoiceEncoder(nn.Module):
    """Adds pitch, and in GeneFace++ blinks and amplitudes, to the audio condition.

    Without blinks and amplitudes the result is the concatenation [audio, pitch] (GeneFace's pitch variant); otherwise a linear layer
    projects [audio, pitch, blink, mouth, eyes] to the audio's width.

    Attributes:
      features: width of the audio condition and of every embedding.
      pitch: width of the encoded pitch; 0 leaves it out.
      blink, mouth_amp, eye_amp: whether each is an input.
      pairing: see `pair_audio`.
    """

    features: int
    pitch: int
    blink: bool
    mouth_amp: bool
    eye_amp: bool
    pairing: str
    axis_name: str | None = None

    @nn.compact
    def __call__(self, audio: Float[Array, "B T C"], voice: Voice, train: bool) -> Float[jax.Array, "B T D"]:
        """Returns D = C channels, or C + pitch with pitch alone."""
        normal = nn.initializers.normal(self.features**-0.5)
        parts = [audio]
        if self.pitch:
            pitch = nn.Embed(N_PITCH, self.features, embedding_init=normal, name="pitch_embedding")(pitch_bins(voice.f0))
            encoder = SpeechConditionEncoder(self.pitch, self.axis_name, self.features, name="pitch_encoder")
            parts.append(encoder(pair_audio(pitch, self.pairing), train))
        if self.blink:
            parts.append(nn.Embed(2, self.features, embedding_init=normal, name="blink_embedding")(voice.blink))
        for name, used, amplitude in (("mouth_amp", self.mouth_amp, voice.mouth_amp), ("eye_amp", self.eye_amp, voice.eye_amp)):
            if used:
                direction = self.param(name, nn.initializers.normal(1.0), (self.features,))
                parts.append(jnp.broadcast_to(amplitude[:, None, None] * direction, audio.shape))
        joined = jnp.concatenate(parts, axis=-1)
        if not (self.blink or self.mouth_amp or self.eye_amp):
            return joined
        init = uniform_fan_in(joined.shape[-1])
        return nn.Dense(self.features, kernel_init=init, bias_init=init, name="join")(joined)


# -------- WaveNet stack: conditioned gated convolutions with residual and skip paths (Glow-TTS / VITS)


class WaveNet(nn.Module):
    """Masked sum of the skip outputs of gated layers. Dilation 1, odd kernel size, no dropout, every convolution weight-normalized."""

    hidden: int
    layers: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T H"], mask: Num[Array, "B T 1"], condition: Float[Array, "B T G"]) -> Float[jax.Array, "B T H"]:
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


# -------- Prior flow: volume-preserving couplings between the posterior and a standard normal (Glow-TTS / VITS)


class MeanCoupling(nn.Module):
    """Shifts the second half of the channels by a function of the first half and the condition; its log-determinant is 0.

    Initialized as the identity (the last layer is zero). The first half passes unmasked, as in the original.
    """

    hidden: int
    layers: int
    kernel_size: int

    @nn.compact
    def __call__(
        self, z: Float[Array, "B T C"], mask: Num[Array, "B T 1"], condition: Float[Array, "B T G"], inverse: bool
    ) -> Float[jax.Array, "B T C"]:
        first, second = jnp.split(z, 2, axis=-1)
        h = Conv1d(self.hidden, name="pre")(first) * mask
        h = WaveNet(self.hidden, self.layers, self.kernel_size, name="wavenet")(h, mask, condition)
        shift = Conv1d(second.shape[-1], zero_init=True, name="post")(h) * mask
        second = (second - shift) * mask if inverse else shift + second * mask
        return jnp.concatenate([first, second], axis=-1)


class PriorFlow(nn.Module):
    """A chain of `blocks` couplings with the channel order reversed after each."""

    blocks: int = 4
    hidden: int = 64
    layers: int = 4
    kernel_size: int = 3

    @nn.compact
    def __call__(
        self, z: Float[Array, "B T C"], mask: Num[Array, "B T 1"], condition: Float[Array, "B T G"], inverse: bool = False
    ) -> Float[jax.Array, "B T C"]:
        """Maps posterior -> prior, or prior -> posterior with `inverse` (exact where the mask is 1). C is even."""
        z = jnp.asarray(z)
        couplings = [MeanCoupling(self.hidden, self.layers, self.kernel_size, name=f"coupling_{i}") for i in range(self.blocks)]
        if inverse:
            for coupling in reversed(couplings):
                z = coupling(z[..., ::-1], mask, condition, inverse=True)
            return z
        for coupling in couplings:
            z = coupling(z, mask, condition, inverse=False)[..., ::-1]
        return z


# -------- The VAE

STRIDE = 4
"""Video frames per latent frame; sequence lengths are multiples of it."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posterior:
    """Latents of a training pass over L = T/4 frames.

    `log_std` is log sigma (not log sigma^2). `z` is the sample, `z_prior` its image under the flow.
    """

    mean: Float[jax.Array, "B L C"]
    log_std: Float[jax.Array, "B L C"]
    z: Float[jax.Array, "B L C"]
    z_prior: Float[jax.Array, "B L C"]
    mask: Num[Array, "B L 1"]


class Audio2Motion(nn.Module):
    """Conditional VAE over [T, motion_dim] with one latent frame per 4 video frames. T must be a multiple of 4.

    The defaults are the original's, conditioned on audio alone. With `pitch`, `blink` or an amplitude it needs a `Voice` in every call:
    GeneFace's pitch variant has pitch 32; GeneFace++ has condition 128, pitch 128 and blink, mouth_amp, eye_amp depending on the
    checkpoint.

    Attributes:
      motion_dim: D of the landmarks, 204.
      condition: width of the condition (`gin`).
      hidden, kernel_size: of the encoder's and decoder's WaveNets.
      encoder_layers, decoder_layers: their depths.
      latent: channels of z.
      flow_blocks, flow_hidden, flow_layers, flow_kernel_size: the prior flow.
      pairing: see `pair_audio`.
      pitch: width of the encoded pitch; 0 leaves it out.
      blink, mouth_amp, eye_amp: whether each is an input, see `VoiceEncoder`.
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
        if self.needs_voice:
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

    @property
    def needs_voice(self) -> bool:
        """Whether anything but the audio is an input."""
        return bool(self.pitch or self.blink or self.mouth_amp or self.eye_amp)

    def conditions(
        self, audio: Float[Array, "B A C"], train: bool = False, voice: Voice | None = None
    ) -> tuple[Float[jax.Array, "B T G"], Float[jax.Array, "B L G2"]]:
        """The condition at the video rate, T = A/2, and at the latent rate, L = T/4.

        Raises:
          ValueError: the network needs a voice and there is none.
        """
        condition = self.condition_encoder(pair_audio(audio, self.pairing), train)
        if self.needs_voice:
            if voice is None:
                raise ValueError("An audio2motion VAE with pitch, blinks or amplitudes needs a voice beside the audio: pass voice=.")
            condition = self.voice_encoder(condition, voice, train)
        return condition, self.condition_down(condition)

    def encode(
        self, motion: Float[Array, "B T D"], mask: Num[Array, "B L 1"], condition_down: Float[Array, "B L G"]
    ) -> tuple[Float[jax.Array, "B L C"], Float[jax.Array, "B L C"]]:
        """Posterior mean and log sigma. Neither is masked (the loss masks)."""
        x = self.encoder_down(motion) * mask
        x = self.encoder_wavenet(x, mask, condition_down) * mask
        mean, log_std = jnp.split(self.encoder_out(x), 2, axis=-1)
        return mean, log_std

    def decode(self, z: Float[Array, "B L C"], mask: Num[Array, "B T 1"], condition: Float[Array, "B T G"]) -> Float[jax.Array, "B T D"]:
        """Motion of latents; the last layer is not masked."""
        x = self.decoder_up(z) * mask
        return self.decoder_out(self.decoder_wavenet(x, mask, condition) * mask)

    def __call__(
        self,
        motion: Float[Array, "B T D"],
        mask: Num[Array, "B T"],
        audio: Float[Array, "B A C"],
        noise: Float[Array, "B L Z"],
        train: bool = False,
        voice: Voice | None = None,
    ) -> tuple[Float[jax.Array, "B T D"], Posterior]:
        """The training pass: returns the masked reconstruction and the posterior.

        Args:
          motion: ground truth. mask: 0/1. audio: A = 2T frames.
          noise: standard normal draws that sample the posterior, L = T/4.
          train: whether batch norm uses and updates batch statistics.
          voice: see `needs_voice`.
        """
        condition, condition_down = self.conditions(audio, train, voice)
        mask = mask[..., None]
        mask_down = mask[:, ::STRIDE]
        mean, log_std = self.encode(motion, mask_down, condition_down)
        z = mean + noise * jnp.exp(log_std)
        z_prior = self.flow(z, mask_down, condition_down)
        return self.decode(z, mask, condition) * mask, Posterior(mean, log_std, z, z_prior, mask_down)

    def generate(
        self, audio: Float[Array, "B A C"], z_prior: Float[Array, "B L Z"], voice: Voice | None = None
    ) -> Float[jax.Array, "B T D"]:
        """Motion of speech, T = A/2, with running batch statistics; `z_prior` is standard normal times the temperature."""
        condition, condition_down = self.conditions(audio, voice=voice)
        ones = jnp.ones((*audio.shape[:1], audio.shape[1] // 2, 1), audio.dtype)
        z = self.flow(z_prior, ones[:, ::STRIDE], condition_down, inverse=True)
        return self.decode(z, ones, condition)


def position_noise(rng: jax.Array, start: int | Array, length: int, latent: int) -> Float[jax.Array, "{length} {latent}"]:
    """Standard normal draws for the latent frames start, start + 1, ...

    The key is folded with the frame's position, so that the noise of a frame does not depend on how the audio was cut or padded.
    """
    keys = jax.vmap(lambda position: jax.random.fold_in(rng, position))(start + jnp.arange(length))
    return jax.vmap(lambda key: jax.random.normal(key, (latent,)))(keys)


# -------- Running the trained speech-to-motion networks on a recording of any length

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
      voice: of the audio, batch size 1, see `Audio2Motion.needs_voice`.
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
