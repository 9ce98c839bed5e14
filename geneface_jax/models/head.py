"""The head network: RAD-NeRF's radiance field with GeneFace's landmark condition encoder (windows, blink, attention)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import spherical_harmonics
from geneface_kernels.grid_encoding import GridSpec

from geneface_jax.models.layers import GridEncoder, Mlp, grid_spec, trunc_exp

if TYPE_CHECKING:
    from ml_collections import ConfigDict


# ----------------------------------------------------------------------------------------------------
# From a window of landmarks to the condition of the head: per-frame encoder, blink, attention over the window.
#
# Sizes and slopes follow GeneFace's AudioNet and AudioAttNet. Two windows are at work: the attention weighs S frames (`smo_win_size`),
# and each of these may itself be a window of W frames (`cond_win_size`), which convolutions of stride 2 shrink to one. All landmark
# configs have W = 1: convolutions of width 3 over a sequence of length 1 see padding but for the middle tap, so they are dense layers
# then; the importer takes the middle tap.

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


# ----------------------------------------------------------------------------------------------------
# The head: a radiance field conditioned on landmarks (RAD-NeRF's field with GeneFace's landmark condition).
#
# Ye et al. 2023, "GeneFace", section 3.3; Tang et al. 2022, "Real-time Neural Radiance Talking Portrait Synthesis", section 3.


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

    @classmethod
    def from_config(cls, model: ConfigDict) -> Head:
        """The head network of `config.model` (stage "head")."""
        return cls(
            position_grid=grid_spec(model.position_grid),
            ambient_grid=grid_spec(model.ambient_grid),
            hidden=model.hidden,
            hidden_color=model.hidden_color,
            geometry_features=model.geometry_features,
            condition_features=model.condition_features,
            blink_channels=model.blink_channels,
            codes=model.codes,
            code_features=model.code_features,
            bound=model.bound,
            # Configs of earlier checkpoints don't have these two.
            condition_frames=model.get("condition_frames", 1),
            attention=model.get("attention", True),
        )

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

    def initialize(self, window: jax.Array, eye_openness: jax.Array, x: jax.Array) -> FieldSample:
        """Touches every parameter once; the method to `init` with."""
        return self(x, x, self.condition(window, eye_openness)[:1], self.code(jnp.zeros(1, jnp.int32)))
