"""HuBERT speech encoder in Flax, equal to transformers' `HubertModel` in evaluation mode."""

import math
from collections.abc import Sequence
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.typing import Array, Bool, Float, Integer
from jax import lax

from geneface_jax.models.layers import uniform_fan_in

# -------- Feature extractor: seven strided convolutions, 16 kHz sound -> 50 vectors per second

NORM_EPSILON = 1e-5
"""Epsilon of the convolutions' norms: PyTorch's default, not the config's `layer_norm_eps`."""

Count = TypeVar("Count", int, jax.Array)


def conv_lengths(samples: Count, kernels: Sequence[int], strides: Sequence[int]) -> list[Count]:
    """Frames after each convolution without padding, for a number of samples (at least the receptive field)."""
    lengths = []
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
        lengths.append(samples)
    return lengths


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Receptive field of one output frame in samples: 400 for every published HuBERT."""
    field, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field


def hop(strides: Sequence[int]) -> int:
    """Samples between output frames: 320, 20 ms."""
    return math.prod(strides)


class NormOverTime(nn.Module):
    """`torch.nn.GroupNorm` with one channel per group: normalizes every channel over time, then applies `scale` and `bias`."""

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B T C"], length: Integer[jax.Array, " B"]) -> Float[jax.Array, "B T C"]:
        """Only the first `length` frames of an item enter its statistics."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        inside = (jnp.arange(x.shape[1])[None, :] < length[:, None])[..., None]
        count = length[:, None, None].astype(x.dtype)
        mean = jnp.sum(jnp.where(inside, x, 0.0), axis=1, keepdims=True) / count
        variance = jnp.sum(jnp.where(inside, jnp.square(x - mean), 0.0), axis=1, keepdims=True) / count
        return (x - mean) * lax.rsqrt(variance + NORM_EPSILON) * scale + bias


class SoundConv(nn.Module):
    """Strided convolution without padding, norm, exact GELU; `norm` is "layer" (over channels), "group" (`NormOverTime`) or "none"."""

    features: int
    kernel_size: int
    stride: int
    use_bias: bool
    norm: str

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B T I"], length: Integer[jax.Array, " B"]) -> Float[jax.Array, "B A O"]:
        """`length` is the number of output frames that are sound, not padding; A = (T - kernel_size) // stride + 1."""
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
    """A chain of `SoundConv`s.

    Attributes:
      features, kernels, strides: of each convolution.
      norm: "layer": a layer norm after every convolution (large); "group": a norm over time after the first one only (base).
    """

    features: Sequence[int]
    kernels: Sequence[int]
    strides: Sequence[int]
    use_bias: bool
    norm: str

    @nn.compact
    def __call__(self, samples: Float[jax.Array, "B n"], length: Integer[jax.Array, " B"]) -> Float[jax.Array, "B A O"]:
        """`length` is the number of samples that are sound, not padding."""
        x = samples[..., None]
        lengths = conv_lengths(length, self.kernels, self.strides)
        for i, spec in enumerate(zip(self.features, self.kernels, self.strides, strict=True)):
            norm = "layer" if self.norm == "layer" else ("group" if i == 0 else "none")
            x = SoundConv(*spec, self.use_bias, norm, name=f"conv_{i}")(x, lengths[i])
        return x


# -------- Transformer encoder: position embedding by a grouped convolution, then attention layers


class PositionConv(nn.Module):
    """Position embedding: a wide grouped convolution over time, weight-normalized per tap, and the exact GELU.

    Parameters: `direction` [K, C / groups, C] (PyTorch's weight_v or original1), `scale` [K] (weight_g or original0), `bias` [C];
    kernel[k] = scale[k] * direction[k] / |direction[k]|. K is 128 and groups 16 in the published models.
    """

    kernel_size: int
    groups: int

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B T C"]) -> Float[jax.Array, "B T C"]:
        features, padding = x.shape[-1], self.kernel_size // 2
        init = uniform_fan_in(self.kernel_size * features // self.groups)
        direction = self.param("direction", init, (self.kernel_size, features // self.groups, features))
        norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(1, 2)))
        scale = self.param("scale", lambda _, shape: jnp.broadcast_to(norm, shape), (self.kernel_size,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        kernel = direction * (scale / norm)[:, None, None]
        layout = ("NWC", "WIO", "NWC")
        y = lax.conv_general_dilated(x, kernel, (1,), [(padding, padding)], dimension_numbers=layout, feature_group_count=self.groups)
        # An even kernel gives one frame too many: the last is dropped.
        return nn.gelu(y[:, : x.shape[1]] + bias, approximate=False)


class SelfAttention(nn.Module):
    """Multi-head self-attention; the width is a multiple of `heads`."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B A C"], inside: Bool[jax.Array, "B A"]) -> Float[jax.Array, "B A C"]:
        """`inside` is False for padding, which is not attended to."""
        width = x.shape[-1]
        split = (*x.shape[:-1], self.heads, width // self.heads)
        query, key, value = (nn.Dense(width, name=name)(x).reshape(split) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * split[-1] ** -0.5
        weights = nn.softmax(jnp.where(inside[:, None, None, :], scores, -jnp.inf), axis=-1)
        return nn.Dense(width, name="output")(jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape))


class EncoderLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each with a residual connection.

    Attributes:
      heads: of the attention. hidden: width of the perceptron. epsilon: of the layer norms.
      norm_first: pre-norm (large, "stable layer norm") instead of post-norm (base).
    """

    heads: int
    hidden: int
    epsilon: float
    norm_first: bool

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B A C"], inside: Bool[jax.Array, "B A"]) -> Float[jax.Array, "B A C"]:
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


class Hubert(nn.Module):
    """Speech features at 50 frames per second (float32, last hidden state). The defaults are hubert-large's.

    Attributes:
      conv_features, conv_kernels, conv_strides: of the seven convolutions.
      conv_bias: whether these have biases (base: False).
      conv_norm: "layer" or "group" (base), see `SoundEncoder`.
      width: C of the encoder (base: 768).
      layers, heads, hidden: depth, attention heads, width of the perceptrons (base: 12, 12, 3072).
      norm_first: see `EncoderLayer` (base: False).
      position_kernel, position_groups: see `PositionConv`.
      projection_norm: whether a layer norm precedes the projection to `width`.
      epsilon: of the layer norms after the convolutions.
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
    def __call__(self, samples: Float[Array, "B n"], length: Integer[Array, " B"] | None = None) -> Float[jax.Array, "B A C"]:
        """The last hidden state; A = (n - 80) // 320 with the published strides.

        Args:
          samples: 16 kHz, normalized to mean 0 and variance 1 over the recording; n at least 400.
          length: number of samples that are sound, not padding; None means all. Frames of sound do not depend on the padding, frames
            beyond them are meaningless.
        """
        samples = jnp.asarray(samples)
        length = jnp.full(samples.shape[:1], samples.shape[1]) if length is None else jnp.asarray(length)
        sound = SoundEncoder(self.conv_features, self.conv_kernels, self.conv_strides, self.conv_bias, self.conv_norm, name="sound")
        x = sound(samples, length)
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
