"""The lower layers of Whisper's speech encoder in Flax, equal to transformers' `WhisperEncoder`, and its log-mel with a constant floor."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.typing import Array, Float

from geneface_jax.models.hubert import EncoderLayer
from geneface_jax.models.layers import Conv1d

# -------- Log-mel of 16 kHz sound, 100 frames per second

N_FFT, HOP, N_MELS = 400, 160, 80
"""Samples of a frame and between frames; mel filters (Slaney's, 0 to 8000 Hz)."""

LOWEST = -6.6
"""log10 of the mel power below which nothing is heard. Whisper hears 8 below the recording's loudest value, which may come minutes later:
1.2 in the median of the avatar's recordings, 1.7 in GRID's, 1.1 in videos from the web."""


def log_mel(samples: Float[Array, "B N"], filters: Float[Array, "80 201"], lowest: float = LOWEST) -> Float[jax.Array, "B M 80"]:
    """Whisper's input, M = N // 160. Frame m is centered on sample 160 m; outside of the samples they are mirrored.

    Args:
      samples: at 16 kHz, in about -1..1; N at least 201.
      filters: mel filters over the frequencies of the spectrum.
      lowest: smallest log10 of the mel power, at which the result is (lowest + 4) / 4.
    """
    padded = jnp.pad(jnp.asarray(samples, jnp.float32), ((0, 0), (N_FFT // 2, N_FFT // 2)), mode="reflect")
    frames = padded[:, jnp.arange(samples.shape[1] // HOP)[:, None] * HOP + jnp.arange(N_FFT)]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)
    spectrum = jnp.fft.rfft(frames * window.astype(np.float32), axis=-1)
    power = (jnp.square(spectrum.real) + jnp.square(spectrum.imag)) @ jnp.asarray(filters).T
    return (jnp.log10(jnp.maximum(power, 10.0**lowest)) + 4.0) / 4.0


# -------- Encoder: two convolutions, positions, attention layers


def sinusoids(length: int, channels: int) -> Float[np.ndarray, "length channels"]:
    """Whisper's positions, float32: sines, then cosines, of wavelengths from 2 pi to 20000 pi."""
    rates = np.exp(-np.log(10000.0) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class Whisper(nn.Module):
    """Speech features at 50 per second. The defaults are those of tiny.en, without the layers that are not used.

    Attributes:
      width: C.
      layers: attention layers, counted from the input; tiny.en has four.
      heads, hidden: attention heads, width of the perceptrons.
    """

    width: int = 384
    layers: int = 2
    heads: int = 6
    hidden: int = 1536

    @nn.compact
    def __call__(self, mel: Float[Array, "B M 80"]) -> tuple[Float[jax.Array, "B A C"], ...]:
        """The `layers + 1` hidden states, without the encoder's last norm: what the first layer gets, then what each layer gives.

        Args:
          mel: of `log_mel`; M is even and at most 3000. A = M / 2, and state a is centered on sample 320 a.
        """
        x = nn.gelu(Conv1d(self.width, 3, padding=1, name="conv1")(mel), approximate=False)
        x = nn.gelu(Conv1d(self.width, 3, stride=2, padding=1, name="conv2")(x), approximate=False)
        states = [x + sinusoids(x.shape[1], self.width)]
        everything = jnp.ones(x.shape[:2], bool)
        for i in range(self.layers):
            states.append(EncoderLayer(self.heads, self.hidden, 1e-5, norm_first=True, name=f"layer_{i}")(states[-1], everything))
        return tuple(states)
