"""HuBERT speech encoder in Flax, equal to transformers' `HubertModel` in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from geneface_jax.models.layers import uniform_fan_in

# ----------------------------------------------------------------------------------------------------
# HuBERT's first half: seven strided convolutions turn 16 kHz sound into 50 vectors a second, then a projection to the encoder's width.

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


# ----------------------------------------------------------------------------------------------------
# HuBERT's second half: positions by a grouped convolution, then transformer layers.


def grouped_conv1d(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """Convolves [B, T, C] with a kernel [K, C / groups, C] by groups of channels, K // 2 zeros on both sides -> [B, T + 1 - K % 2, C]."""
    taps, width, features = kernel.shape
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), [(taps // 2, taps // 2)], dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=groups
    )


class PositionConv(nn.Module):
    """Position embedding: a wide grouped convolution over time, weight-normalised per tap, and the exact GELU.

    Parameters: `direction` [K, C / groups, C] (PyTorch's weight_v or original1), `scale` [K] (weight_g or original0), `bias` [C];
    kernel[k] = scale[k] * direction[k] / |direction[k]|.

    Attributes:
      kernel_size: K, 128. groups: 16.
    """

    kernel_size: int
    groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        init = uniform_fan_in(self.kernel_size * features // self.groups)
        direction = self.param("direction", init, (self.kernel_size, features // self.groups, features))
        norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(1, 2)))
        scale = self.param("scale", lambda _, shape: jnp.broadcast_to(norm, shape), (self.kernel_size,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        y = grouped_conv1d(x, direction * (scale / norm)[:, None, None], self.groups)
        # An even kernel gives a frame too many: the last is dropped.
        return nn.gelu(y[:, : x.shape[1]] + bias, approximate=False)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself.

    Attributes:
      heads: number of heads; the width is a multiple of it.
    """

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """Args: x [B, A, C]; inside [B, A] bool, False where nobody may look. Returns [B, A, C]."""
        width = x.shape[-1]
        split = (*x.shape[:-1], self.heads, width // self.heads)
        query, key, value = (nn.Dense(width, name=name)(x).reshape(split) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * split[-1] ** -0.5
        weights = nn.softmax(jnp.where(inside[:, None, None, :], scores, -jnp.inf), axis=-1)
        return nn.Dense(width, name="output")(jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape))


class EncoderLayer(nn.Module):
    """Attention and a two-layer perceptron, each with a residual.

    Attributes:
      heads: of the attention. hidden: width of the perceptron. epsilon: of the layer norms.
      norm_first: the norms stand before the two parts (large, "stable layer norm") or after their residuals (base).
    """

    heads: int
    hidden: int
    epsilon: float
    norm_first: bool

    @nn.compact
    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        attention_norm = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="attention_norm")
        feed_forward_norm = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="feed_forward_norm")
        attention = SelfAttention(self.heads, name="attention")

        def feed_forward(y: jax.Array) -> jax.Array:
            y = nn.gelu(nn.Dense(self.hidden, name="feed_forward_in")(y), approximate=False)
            return nn.Dense(x.shape[-1], name="feed_forward_out")(y)

        if self.norm_first:
            x = x + attention(attention_norm(x), inside)
            return x + feed_forward(feed_forward_norm(x))
        x = attention_norm(x + attention(x, inside))
        return feed_forward_norm(x + feed_forward(x))


# ----------------------------------------------------------------------------------------------------
# HuBERT: self-supervised speech features, equal to transformers' `HubertModel` in evaluation mode (float32, last hidden state).


class Hubert(nn.Module):
    """Sound -> [B, A, width] at 50 frames a second. The defaults are hubert-large's; base differs in the fields named below.

    Attributes:
      conv_features, conv_kernels, conv_strides: of the seven convolutions.
      conv_bias: whether they have biases (base: False).
      conv_norm: "layer" or "group" (base), see `SoundEncoder`.
      width: C of the encoder (base: 768).
      layers, heads, hidden: its depth, the heads of its attention, the width of its perceptrons (base: 12, 12, 3072).
      norm_first: see `EncoderLayer` (base: False).
      position_kernel, position_groups: see `PositionConv`.
      projection_norm: whether a layer norm stands before the projection to `width`.
      epsilon: of the layer norms behind the convolutions.
    """

    conv_features: Sequence[int] = (512,) * 7
    conv_kernels: Sequence[int] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: Sequence[int] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = True
    conv_norm: str = "layer"
    width: int = 1024
    layers: int = 24
    heads: int = 16
    hidden: int = 4096
    norm_first: bool = True
    position_kernel: int = 128
    position_groups: int = 16
    projection_norm: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, samples: jax.Array, length: jax.Array | None = None) -> jax.Array:
        """The last hidden state.

        Args:
          samples: [B, n] at 16 kHz, normalised to mean 0 and variance 1 over the recording; n at least 400.
          length: [B] int32, how many of the samples are sound and not padding; None means all. Frames of sound come out as if the
            padding were not there.

        Returns:
          [B, A, width], A = (n - 80) // 320 with the published strides; frames beyond the sound are meaningless.
        """
        length = jnp.full(samples.shape[:1], samples.shape[1]) if length is None else jnp.asarray(length)
        x = SoundEncoder(self.conv_features, self.conv_kernels, self.conv_strides, self.conv_bias, self.conv_norm, name="sound")(
            samples, length
        )
        if self.projection_norm:
            x = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="projection_norm")(x)
        x = nn.Dense(self.width, name="projection")(x)

        inside = jnp.arange(x.shape[1])[None, :] < conv_lengths(length, self.conv_kernels, self.conv_strides)[-1][:, None]
        x = jnp.where(inside[..., None], x, 0.0)
        x = x + PositionConv(self.position_kernel, self.position_groups, name="position")(x)
        norm = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="norm")
        if not self.norm_first:
            x = norm(x)
        for i in range(self.layers):
            x = EncoderLayer(self.heads, self.hidden, self.epsilon, self.norm_first, name=f"layer_{i}")(x, inside)
        return norm(x) if self.norm_first else x
