"""HuBERT's first half: seven strided convolutions turn 16 kHz sound into 50 vectors a second, then a projection to the encoder's width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from geneface_jax.models.layers_1d import uniform_fan_in

NORM_EPSILON = 1e-5
"""Of the convolutions' norms; PyTorch's default, not the config's `layer_norm_eps`."""


def conv_lengths(samples: int | jax.Array, kernels: Sequence[int], strides: Sequence[int]) -> list[int | jax.Array]:
    """Frames after each convolution without padding, for a number of samples (at least the receptive field)."""
    lengths = []
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
        lengths.append(samples)
    return lengths


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one frame of the last convolution sees: 400 for every published HuBERT."""
    field, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field


def hop(strides: Sequence[int]) -> int:
    """Samples from one frame to the next: 320, 20 ms."""
    return math.prod(strides)


class NormOverTime(nn.Module):
    """`torch.nn.GroupNorm` with one channel a group: every channel to mean 0 and variance 1 over time, then `scale` and `bias`."""

    @nn.compact
    def __call__(self, x: jax.Array, length: jax.Array) -> jax.Array:
        """Args: x [B, T, C]; length [B], the frames that count, from the first. Returns [B, T, C]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        inside = (jnp.arange(x.shape[1])[None, :] < length[:, None])[..., None]
        count = length[:, None, None].astype(x.dtype)
        mean = jnp.sum(jnp.where(inside, x, 0.0), axis=1, keepdims=True) / count
        variance = jnp.sum(jnp.where(inside, jnp.square(x - mean), 0.0), axis=1, keepdims=True) / count
        return (x - mean) * lax.rsqrt(variance + NORM_EPSILON) * scale + bias


class SoundConv(nn.Module):
    """One strided convolution without padding, then its norm (if any), then the exact GELU.

    Attributes:
      features, kernel_size, stride: of the convolution. use_bias: whether it has a bias.
      norm: "layer" over channels, "group" each channel over time (`NormOverTime`), or "none".
    """

    features: int
    kernel_size: int
    stride: int
    use_bias: bool
    norm: str

    @nn.compact
    def __call__(self, x: jax.Array, length: jax.Array) -> jax.Array:
        """Args: x [B, T, I]; length [B], how many frames of the output are sound. Returns [B, (T - kernel) // stride + 1, features]."""
        init = uniform_fan_in(self.kernel_size * x.shape[-1])
        kernel = self.param("kernel", init, (self.kernel_size, x.shape[-1], self.features))
        x = lax.conv_general_dilated(x, kernel, (self.stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
        if self.use_bias:
            x = x + self.param("bias", init, (self.features,))
        if self.norm == "layer":
            x = nn.LayerNorm(NORM_EPSILON, use_fast_variance=False, name="norm")(x)
        elif self.norm == "group":
            x = NormOverTime(name="norm")(x, length)
        return nn.gelu(x, approximate=False)


class SoundEncoder(nn.Module):
    """The chain of `SoundConv`s.

    Attributes:
      features, kernels, strides: of each convolution. use_bias: of all.
      norm: "layer": every convolution is followed by a layer norm (large); "group": only the first, by a norm over time (base).
    """

    features: Sequence[int]
    kernels: Sequence[int]
    strides: Sequence[int]
    use_bias: bool
    norm: str

    @nn.compact
    def __call__(self, samples: jax.Array, length: jax.Array) -> jax.Array:
        """Args: samples [B, n]; length [B], how many are sound (the rest is padding). Returns [B, A, features[-1]]."""
        x = samples[..., None]
        lengths = conv_lengths(length, self.kernels, self.strides)
        for i, spec in enumerate(zip(self.features, self.kernels, self.strides, strict=True)):
            norm = "layer" if self.norm == "layer" else ("group" if i == 0 else "none")
            x = SoundConv(*spec, self.use_bias, norm, name=f"conv_{i}")(x, lengths[i])
        return x
