"""The head: a radiance field conditioned on landmarks (RAD-NeRF's field with GeneFace's landmark condition).

Ye et al. 2023, "GeneFace", section 3.3; Tang et al. 2022, "Real-time Neural Radiance Talking Portrait Synthesis", section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import spherical_harmonics
from geneface_kernels.grid_encoding import GridSpec

from geneface_jax.models.activations import trunc_exp
from geneface_jax.models.condition import ConditionEncoder
from geneface_jax.models.grid import GridEncoder
from geneface_jax.models.mlp import Mlp


class FieldSample(NamedTuple):
    """What the field says of M points: sigma [M], rgb [M, 3] in [0, 1], ambient [M, A] in [-1, 1]."""

    sigma: jax.Array
    rgb: jax.Array
    ambient: jax.Array


class Head(nn.Module):
    """Landmark-conditioned radiance field of one person's head.

    Attributes:
      position_grid: encoding of the position (D = 3).
      ambient_grid: encoding of the ambient coordinates (D = 2 or 3), through which the condition deforms the field.
      hidden: width of the density and ambient networks.
      hidden_color: width of the colour network.
      geometry_features: size of the feature the density network hands to the colour network.
      condition_features: size of the condition.
      blink_channels, condition_frames, attention: see `ConditionEncoder`.
      codes: number of per-frame appearance codes (training frames); code 0 is used at inference.
      code_features: size of such a code.
      bound: the scene is [-bound, bound]^3.
    """

    position_grid: GridSpec
    ambient_grid: GridSpec
    hidden: int = 128
    hidden_color: int = 128
    geometry_features: int = 128
    condition_features: int = 64
    blink_channels: int = 2
    codes: int = 13000
    code_features: int = 4
    bound: float = 1.0
    condition_frames: int = 1
    attention: bool = True

    def setup(self) -> None:
        self.condition_encoder = ConditionEncoder(self.condition_features, self.blink_channels, self.condition_frames, self.attention)
        self.position_encoder = GridEncoder(self.position_grid, self.bound)
        self.ambient_encoder = GridEncoder(self.ambient_grid)
        self.ambient_net = Mlp(self.hidden, self.ambient_grid.dims, 3)
        self.sigma_net = Mlp(self.hidden, 1 + self.geometry_features, 3)
        self.color_net = Mlp(self.hidden_color, 3, 2)
        self.frame_codes = self.param("frame_codes", nn.initializers.normal(0.1), (self.codes, self.code_features))

    def condition(self, window: jax.Array, eye_openness: jax.Array) -> jax.Array:
        """[B, S, 204] normalised motion windows ([B, S, W, 204] with W condition frames) and [B] eye openness ->
        [B, condition_features]."""
        return self.condition_encoder(window, eye_openness)

    def code(self, frame: jax.Array) -> jax.Array:
        """Appearance code [..., code_features] of training frames [...]."""
        return self.frame_codes[frame]

    def density(self, x: jax.Array, condition: jax.Array, group: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Density, geometry feature and ambient coordinates of points.

        Args:
          x: [M, 3].
          condition: [G, condition_features].
          group: [M] int32 row of `condition` for each point; None takes row 0 for all.
        """
        position = self.position_encoder(x)
        ambient = jnp.tanh(self.ambient_net(position, condition, group))
        h = self.sigma_net(jnp.concatenate([position, self.ambient_encoder(ambient)], axis=-1))
        return trunc_exp(h[:, 0]), h[:, 1:], ambient

    def __call__(
        self, x: jax.Array, direction: jax.Array, condition: jax.Array, code: jax.Array, group: jax.Array | None = None
    ) -> FieldSample:
        """Evaluates the field.

        Args:
          x: [M, 3] points in [-bound, bound].
          direction: [M, 3] unit viewing directions.
          condition: [G, condition_features].
          code: [G, code_features].
          group: [M] int32 row of `condition` and `code` for each point; None takes row 0 for all.
        """
        sigma, geometry, ambient = self.density(x, condition, group)
        rgb = nn.sigmoid(self.color_net(jnp.concatenate([spherical_harmonics(direction, 4), geometry], axis=-1), code, group))
        return FieldSample(sigma, rgb, ambient)

    def initialise(self, window: jax.Array, eye_openness: jax.Array, x: jax.Array) -> FieldSample:
        """Touches every parameter once; the method to `init` with."""
        return self(x, x, self.condition(window, eye_openness)[:1], self.code(jnp.zeros(1, jnp.int32)))
