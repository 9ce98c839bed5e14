"""The vanilla NeRF networks: coarse and fine fields of head and torso (GeneFace's Lm3dNeRF and ADNeRFTorso)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import frequency_encode
from geneface_kernels.typing import Array, Bool, Float

from geneface_jax.models.head import SLOPE, FrameEncoder, WindowAttention
from geneface_jax.models.layers import JointDense

if TYPE_CHECKING:
    from ml_collections import ConfigDict
else:
    ConfigDict = Any

# -------- The field: a deep network on frequency-encoded positions (Mildenhall et al. 2020, conditioned as AD-NeRF)


class NerfField(nn.Module):
    """Color and density of points under a condition.

    Attributes:
      hidden, layers: width and depth of the density network.
      skip: layer (counted from 0) after which the input is concatenated again (skip connection).
      color_hidden, color_layers: width and depth of the color network, whose input is the density network's last layer and the direction.
      octaves, view_octaves: frequencies of position and direction.
      density_start: added to the initial densities (per meter). With the original's 0, two of five newly initialized fields are negative
        everywhere, which leaves no gradient.
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
        names = ("hidden", "layers", "skip", "color_hidden", "color_layers", "octaves", "view_octaves", "density_start")
        return cls(**{name: model[name] for name in names})

    @nn.compact
    def __call__(
        self, points: Float[Array, "R S 3"], view: Float[Array, "R 3"], condition: Float[Array, "#R C"]
    ) -> Float[jax.Array, "R S 4"]:
        """Returns color before the sigmoid and density before the ReLU.

        Args:
          points: S samples on each of R rays.
          view: unit viewing directions.
          condition: of each ray, or of all.
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


# -------- Head and torso: a coarse and a fine field each, and their condition (GeneFace's `Lm3dNeRF` and `ADNeRFTorso`)

POSE_OCTAVES = 6
"""Frequencies of the head's angles and translation in the torso's condition."""

Network = TypeVar("Network", bound="TwoFields")


class TwoFields(nn.Module):
    """Common part of head and torso.

    Attributes:
      coarse, fine: the fields; the fine one is also evaluated at the samples that the coarse one proposes.
      condition_features: size of an encoded frame.
      condition_frames: W, see `FrameEncoder`.
    """

    coarse: NerfField
    fine: NerfField
    condition_features: int = 64
    condition_frames: int = 1

    @classmethod
    def from_config(cls: type[Network], model: ConfigDict) -> Network:
        """The networks of `config.model` (stages "nerf_head" and "nerf_torso")."""
        return cls(NerfField.from_config(model), NerfField.from_config(model), model.condition_features, model.condition_frames)

    def setup(self) -> None:
        self.frame_encoder = FrameEncoder(self.condition_features, self.condition_frames)
        self.attention = WindowAttention()

    def query_coarse(
        self, points: Float[Array, "R S 3"], view: Float[Array, "R 3"], condition: Float[Array, "#R C"]
    ) -> Float[jax.Array, "R S 4"]:
        """The coarse field, see `NerfField.__call__`."""
        return self.coarse(points, view, condition)

    def query_fine(
        self, points: Float[Array, "R S 3"], view: Float[Array, "R 3"], condition: Float[Array, "#R C"]
    ) -> Float[jax.Array, "R S 4"]:
        """The fine field, see `NerfField.__call__`."""
        return self.fine(points, view, condition)

    def evaluate_at_origin(self, condition: Float[Array, "1 C"]) -> Float[jax.Array, "1 1 4"]:
        """Evaluates both fields at one point, for `initialize`."""
        points, view = jnp.zeros((1, 1, 3)), jnp.zeros((1, 3))
        return self.coarse(points, view, condition) + self.fine(points, view, condition)


class NerfHead(TwoFields):
    """Head under a window of landmarks. Attributes as `TwoFields`."""

    def condition(self, window: Float[Array, "S ... C"], attend: Bool[Array, ""] | bool) -> Float[jax.Array, "1 F"]:
        """Condition of a frame.

        Args:
          window: normalized motion around the frame, [S, C] ([S, W, C] for W > 1).
          attend: whether attention weighs the frames of the window; otherwise the condition is the middle frame.
        """
        encoded = self.frame_encoder(window)
        return jnp.where(attend, self.attention(encoded), encoded[len(window) // 2])[None]

    def initialize(self, window: Float[Array, "S ... C"]) -> Float[jax.Array, "1 1 4"]:
        """Uses every parameter once: the method for `init`."""
        return self.evaluate_at_origin(self.condition(window, True))


class NerfTorso(TwoFields):
    """Torso under a window of landmarks (the original: of audio), the head's pose and the head's color. Attributes as `TwoFields`."""

    def setup(self) -> None:
        super().setup()
        self.color_encoder = [nn.Dense(width) for width in (16, 32, 16)]

    def condition(
        self,
        window: Float[Array, "S ... C"],
        euler: Float[Array, " 3"],
        translation: Float[Array, " 3"],
        head_rgb: Float[Array, "R 3"],
    ) -> Float[jax.Array, "R F"]:
        """Condition of R pixels of a frame, F = condition_features + 94.

        Args:
          window: [S, C], or [S, W, C] for W > 1.
          euler, translation: of the head's camera (`rendering.cameras.camera_angles`).
          head_rgb: color of the head network at each pixel, in [0, 1].
        """
        frame = self.attention(self.frame_encoder(window))
        frame = jnp.concatenate([frame, frequency_encode(euler, POSE_OCTAVES), frequency_encode(translation, POSE_OCTAVES)])
        color = self.color_encoder[0](head_rgb)
        for layer in self.color_encoder[1:]:
            color = layer(nn.leaky_relu(color, SLOPE))
        return jnp.concatenate([jnp.broadcast_to(frame, (len(color), len(frame))), color], axis=-1)

    def initialize(self, window: Float[Array, "S ... C"]) -> Float[jax.Array, "1 1 4"]:
        """Uses every parameter once: the method for `init`."""
        return self.evaluate_at_origin(self.condition(window, jnp.zeros(3), jnp.zeros(3), jnp.zeros((1, 3))))
