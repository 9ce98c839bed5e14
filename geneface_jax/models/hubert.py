"""HuBERT: self-supervised speech features, equal to transformers' `HubertModel` in evaluation mode (float32, last hidden state)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.hubert_encoder import EncoderLayer, PositionConv
from geneface_jax.models.hubert_frontend import SoundEncoder, conv_lengths


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
