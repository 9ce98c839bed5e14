"""From a window of landmarks to the condition of the head: per-frame encoder, blink, attention over the window.

Sizes and slopes follow GeneFace's AudioNet and AudioAttNet for a window of single frames (`cond_win_size` 1): its convolutions of width 3
over a sequence of length 1 see padding but for the middle tap, so they are dense layers here; the importer takes the middle tap.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

SLOPE = 0.02
"""Negative slope of the LeakyReLUs in the condition networks."""


class FrameEncoder(nn.Module):
    """[..., in] -> [..., features]: six dense layers, LeakyReLU between them."""

    features: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        half = self.features // 2
        for i, width in enumerate((half, half, self.features, self.features)):
            x = nn.leaky_relu(nn.Dense(width, name=f"conv_{i}")(x), SLOPE)
        x = nn.leaky_relu(nn.Dense(self.features, name="fc_0")(x), SLOPE)
        return nn.Dense(self.features, name="fc_1")(x)


class WindowAttention(nn.Module):
    """[..., W, C] -> [..., C]: a softmax over the window weighs its frames."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        window = x.shape[-2]
        y = x
        for i, width in enumerate((16, 8, 4, 2, 1)):
            y = nn.leaky_relu(nn.Conv(width, (3,), padding=((1, 1),), name=f"conv_{i}")(y), SLOPE)
        weights = nn.softmax(nn.Dense(window, name="dense")(y[..., 0]))
        return jnp.einsum("...w,...wc->...c", weights, x)


class ConditionEncoder(nn.Module):
    """Landmark window and eye openness -> condition (GeneFace++'s cal_cond_feat).

    Attributes:
      features: size of the condition.
      blink_channels: how many of its channels the eye openness shifts (`eye_blink_dim`); 0 for none.
    """

    features: int = 64
    blink_channels: int = 2

    @nn.compact
    def __call__(self, window: jax.Array, eye_openness: jax.Array) -> jax.Array:
        """window: [B, W, 204] normalised motion; eye_openness: [B]. Returns [B, features]."""
        frames = FrameEncoder(self.features, name="frame_encoder")(window)
        if self.blink_channels:
            embedding = self.param("blink_embedding", nn.initializers.normal(1.0), (1, self.features // 2))
            # Two linear layers without an activation between them, as in the original: an affine map of the openness.
            blink = nn.Dense(self.features // 2, name="blink_0")(embedding * eye_openness[:, None])
            blink = nn.Dense(self.blink_channels, name="blink_1")(blink)
            frames = frames.at[..., : self.blink_channels].add(blink[:, None])
        return WindowAttention(name="attention")(frames)
