"""From a window of landmarks to the condition of the head: per-frame encoder, blink, attention over the window.

Sizes and slopes follow GeneFace's AudioNet and AudioAttNet. Two windows are at work: the attention weighs S frames (`smo_win_size`), and
each of these may itself be a window of W frames (`cond_win_size`), which convolutions of stride 2 shrink to one. All landmark configs have
W = 1: convolutions of width 3 over a sequence of length 1 see padding but for the middle tap, so they are dense layers then; the importer
takes the middle tap.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

SLOPE = 0.02
"""Negative slope of the LeakyReLUs in the condition networks."""

LONGEST = 16
"""Most frames that four halvings shrink to one."""


class FrameEncoder(nn.Module):
    """Six layers, LeakyReLU between them: [..., C] -> [..., features], or [..., W, C] -> [..., features] for W > 1 frames.

    Attributes:
      features: size of the result.
      frames: W, at most `LONGEST`. The first ceil(log2(W)) of the four convolutions halve the sequence. That is the originals' table of
        strides, with its entries for 5 and 8 frames, which only the vanilla NeRF's copy reaches (RAD-NeRF's compares a number with a list).
    """

    features: int = 64
    frames: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Encodes frames, or windows of them.

        Raises:
          ValueError: `frames` is out of range, or x has another number of frames.
        """
        if not 1 <= self.frames <= LONGEST:
            raise ValueError(f"a frame encoder takes 1 to {LONGEST} frames, not {self.frames}")
        if self.frames > 1 and (x.ndim < 2 or x.shape[-2] != self.frames):
            raise ValueError(f"x must be [..., {self.frames}, C], got {x.shape}")
        half = self.features // 2
        halvings = (self.frames - 1).bit_length()
        for i, width in enumerate((half, half, self.features, self.features)):
            if self.frames == 1:
                layer = nn.Dense(width, name=f"conv_{i}")
            else:
                layer = nn.Conv(width, (3,), strides=2 if i < halvings else 1, padding=((1, 1),), name=f"conv_{i}")
            x = nn.leaky_relu(layer(x), SLOPE)
        if self.frames > 1:
            x = x[..., 0, :]
        x = nn.leaky_relu(nn.Dense(self.features, name="fc_0")(x), SLOPE)
        return nn.Dense(self.features, name="fc_1")(x)


class WindowAttention(nn.Module):
    """[..., S, C] -> [..., C]: a softmax over the window weighs its frames."""

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
      blink_channels: how many of its channels the eye openness shifts (`eye_blink_dim`); 0 for none, as GeneFace.
      frames: W, see `FrameEncoder`.
      attention: whether the frames of a window are weighed (`with_att`); without, the middle one is the condition.
    """

    features: int = 64
    blink_channels: int = 2
    frames: int = 1
    attention: bool = True

    @nn.compact
    def __call__(self, window: jax.Array, eye_openness: jax.Array) -> jax.Array:
        """Encodes windows.

        Args:
          window: [B, S, C] normalised motion (C = 204), or [B, S, W, C] for W > 1.
          eye_openness: [B]; unused without `blink_channels`.

        Returns:
          [B, features].
        """
        encoded = FrameEncoder(self.features, self.frames, name="frame_encoder")(window)
        if self.blink_channels:
            embedding = self.param("blink_embedding", nn.initializers.normal(1.0), (1, self.features // 2))
            # Two linear layers without an activation between them, as in the original: an affine map of the openness.
            blink = nn.Dense(self.features // 2, name="blink_0")(embedding * eye_openness[:, None])
            blink = nn.Dense(self.blink_channels, name="blink_1")(blink)
            encoded = encoded.at[..., : self.blink_channels].add(blink[:, None])
        if self.attention:
            return WindowAttention(name="attention")(encoded)
        return encoded[..., encoded.shape[-2] // 2, :]
