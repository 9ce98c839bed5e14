"""HuBERT's second half: positions by a grouped convolution, then transformer layers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.layers_1d import uniform_fan_in


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
