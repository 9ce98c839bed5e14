"""The vanilla NeRF networks: coarse and fine fields of head and torso (GeneFace's Lm3dNeRF and ADNeRFTorso)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import frequency_encode

from geneface_jax.models.head import SLOPE, FrameEncoder, WindowAttention
from geneface_jax.models.layers import JointDense

if TYPE_CHECKING:
    from ml_collections import ConfigDict


# ----------------------------------------------------------------------------------------------------
# The field of the vanilla NeRF: a deep network on frequency-encoded positions (Mildenhall et al. 2020, conditioned as AD-NeRF).


class NerfField(nn.Module):
    """Colour and density of points under a condition.

    Attributes:
      hidden, layers: width and depth of the density network; its input joins again after layer `skip` (counted from 0).
      skip: see `layers`.
      color_hidden, color_layers: width and depth of the colour network, which sees the density network's last layer and the direction.
      octaves, view_octaves: frequencies of position and direction.
      density_start: added to the first densities (per metre). With the original's 0, two fresh fields in five are below zero everywhere,
        and so without a gradient.
    """

    hidden: int = 256
    layers: int = 8
    skip: int = 4
    color_hidden: int = 128
    color_layers: int = 3
    octaves: int = 10
    view_octaves: int = 4
    density_start: float = 0.0

    @classmethod
    def from_config(cls, model: ConfigDict) -> NerfField:
        """The field of `config.model` (stages "nerf_head" and "nerf_torso")."""
        return cls(
            hidden=model.hidden,
            layers=model.layers,
            skip=model.skip,
            color_hidden=model.color_hidden,
            color_layers=model.color_layers,
            octaves=model.octaves,
            view_octaves=model.view_octaves,
            density_start=model.density_start,
        )

    @nn.compact
    def __call__(self, points: jax.Array, view: jax.Array, condition: jax.Array) -> jax.Array:
        """Evaluates the field.

        Args:
          points: [R, S, 3], S samples on each of R rays.
          view: [R, 3] unit viewing directions.
          condition: [R, C] of each ray, or [1, C] for all.

        Returns:
          [R, S, 4]: colour before the sigmoid, density before the ReLU.
        """
        position = frequency_encode(points, self.octaves)
        direction = frequency_encode(view, self.view_octaves)[:, None]
        shared = condition[:, None]
        h = nn.relu(JointDense(self.hidden, name="density_0")([position, shared]))
        for i in range(1, self.layers):
            parts = [position, shared, h] if i == self.skip + 1 else [h]
            h = nn.relu(JointDense(self.hidden, name=f"density_{i}")(parts))
        density = JointDense(1, self.density_start, name="density_out")([h])
        h = nn.relu(JointDense(self.color_hidden, name="color_0")([h, direction]))
        for i in range(1, self.color_layers):
            h = nn.relu(JointDense(self.color_hidden, name=f"color_{i}")([h]))
        return jnp.concatenate([JointDense(3, name="color_out")([h]), density], axis=-1)


# ----------------------------------------------------------------------------------------------------
# A person's networks in the vanilla NeRF renderer: two fields and what conditions them (GeneFace's `Lm3dNeRF` and `ADNeRFTorso`).

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

    @classmethod
    def from_config(cls, model: ConfigDict) -> Self:
        """The networks of `config.model` (stages "nerf_head" and "nerf_torso")."""
        return cls(NerfField.from_config(model), NerfField.from_config(model), model.condition_features, model.condition_frames)

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

    def initialize(self, window: jax.Array) -> jax.Array:
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
          euler, translation: [3] each, of the head's camera (`rendering.cameras.camera_angles`).
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

    def initialize(self, window: jax.Array) -> jax.Array:
        """Touches every parameter once; the method to `init` with. The window is that of `condition`."""
        return self.touch_fields(self.condition(window, jnp.zeros(3), jnp.zeros(3), jnp.zeros((1, 3))))
