"""A person's networks in the vanilla NeRF renderer: two fields and what conditions them (GeneFace's `Lm3dNeRF` and `ADNeRFTorso`)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import frequency_encode

from geneface_jax.models.condition import SLOPE, FrameEncoder, WindowAttention
from geneface_jax.models.nerf_field import NerfField

POSE_OCTAVES = 6
"""Frequencies of the head's angles and translation in the torso's condition."""


class TwoFields(nn.Module):
    """What head and torso have in common.

    Attributes:
      coarse, fine: the fields; the fine one also sees the samples that the coarse one proposes.
      condition_features: size of an encoded frame.
      condition_frames: W, frames that the encoder takes at once (`FrameEncoder`).
    """

    coarse: NerfField
    fine: NerfField
    condition_features: int = 64
    condition_frames: int = 1

    def setup(self) -> None:
        self.frame_encoder = FrameEncoder(self.condition_features, self.condition_frames)
        self.attention = WindowAttention()

    def query_coarse(self, points: jax.Array, view: jax.Array, condition: jax.Array) -> jax.Array:
        """The coarse field; arguments and result as `NerfField.__call__`."""
        return self.coarse(points, view, condition)

    def query_fine(self, points: jax.Array, view: jax.Array, condition: jax.Array) -> jax.Array:
        """The fine field; arguments and result as `NerfField.__call__`."""
        return self.fine(points, view, condition)

    def touch_fields(self, condition: jax.Array) -> jax.Array:
        """Evaluates both fields at one point."""
        points, view = jnp.zeros((1, 1, 3)), jnp.zeros((1, 3))
        return self.coarse(points, view, condition) + self.fine(points, view, condition)


class NerfHead(TwoFields):
    """Head under a window of landmarks. Attributes as `TwoFields`."""

    def condition(self, window: jax.Array, attend: jax.Array | bool) -> jax.Array:
        """Condition of a frame.

        Args:
          window: [S, C] normalised motion around the frame ([S, W, C] for W > 1).
          attend: whether the frames of the window are weighed; otherwise the middle one counts alone.

        Returns:
          [1, condition_features].
        """
        encoded = self.frame_encoder(window)
        return jnp.where(attend, self.attention(encoded), encoded[len(window) // 2])[None]

    def initialise(self, window: jax.Array) -> jax.Array:
        """Touches every parameter once; the method to `init` with. The window is that of `condition`."""
        return self.touch_fields(self.condition(window, True))


class NerfTorso(TwoFields):
    """Torso under a window of landmarks (the original: of audio), the head's pose and the head's colour. Attributes as `TwoFields`."""

    def setup(self) -> None:
        super().setup()
        self.color_encoder = [nn.Dense(width) for width in (16, 32, 16)]

    def condition(self, window: jax.Array, euler: jax.Array, translation: jax.Array, head_rgb: jax.Array) -> jax.Array:
        """Condition of R pixels of a frame.

        Args:
          window: [S, C], or [S, W, C] for W > 1.
          euler, translation: [3] each, of the head's camera (`rendering.pinhole.camera_angles`).
          head_rgb: [R, 3] what the head network shows at each pixel, in [0, 1].

        Returns:
          [R, condition_features + 94].
        """
        frame = self.attention(self.frame_encoder(window))
        frame = jnp.concatenate([frame, frequency_encode(euler, POSE_OCTAVES), frequency_encode(translation, POSE_OCTAVES)])
        color = self.color_encoder[0](head_rgb)
        for layer in self.color_encoder[1:]:
            color = layer(nn.leaky_relu(color, SLOPE))
        return jnp.concatenate([jnp.broadcast_to(frame, (len(color), len(frame))), color], axis=-1)

    def initialise(self, window: jax.Array) -> jax.Array:
        """Touches every parameter once; the method to `init` with. The window is that of `condition`."""
        return self.touch_fields(self.condition(window, jnp.zeros(3), jnp.zeros(3), jnp.zeros((1, 3))))
