"""The head network: RAD-NeRF's radiance field with GeneFace's landmark condition encoder (windows, blink, attention)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import spherical_harmonics
from geneface_kernels.grid_encoding import GridSpec
from geneface_kernels.typing import Array, Float, Integer

from geneface_jax.models.layers import GridEncoder, Mlp, grid_spec, trunc_exp

if TYPE_CHECKING:
    from ml_collections import ConfigDict
else:
    ConfigDict = Any

# -------- Landmark condition: per-frame encoder, blink, attention over the window (GeneFace's AudioNet and AudioAttNet)
#
# There are two windows: the attention weighs S frames (`smo_win_size`), and each of these may itself be a window of W frames
# (`cond_win_size`), which convolutions of stride 2 reduce to one. All landmark configs have W = 1.

SLOPE = 0.02
"""Negative slope of the LeakyReLUs in the condition networks."""

LONGEST = 16
"""Most frames that four convolutions of stride 2 reduce to one."""


class FrameEncoder(nn.Module):
    """Six layers with LeakyReLU: [..., C] -> [..., features], or [..., W, C] -> [..., features] for W > 1 frames.

    For W = 1 the convolutions of width 3 are dense layers: only their middle tap sees anything but padding (the importer takes that tap).

    Attributes:
      features: output size.
      frames: W, at most `LONGEST`. The first ceil(log2(W)) of the four convolutions have stride 2. These are the originals' strides,
        including those for 5 and 8 frames, which only the vanilla NeRF's copy reaches (RAD-NeRF's compares a number with a list).
    """

    features: int = 64
    frames: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "... C"]) -> Float[jax.Array, "... F"]:
        """Encodes frames, or windows of frames.

        Raises:
          ValueError: `frames` is out of range, or x has another number of frames.
        """
        if not 1 <= self.frames <= LONGEST:
            raise ValueError(f"frames must be 1 to {LONGEST}, got {self.frames}")
        if self.frames > 1 and (x.ndim < 2 or x.shape[-2] != self.frames):
            raise ValueError(f"x must be [..., {self.frames}, C], got {x.shape}")
        half = self.features // 2
        halvings = (self.frames - 1).bit_length()
        layer: nn.Dense | nn.Conv
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
    """Weighted mean of a window's frames, weighted by a softmax."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch S C"]) -> Float[jax.Array, "*batch C"]:
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
      blink_channels: number of channels that the eye openness shifts (`eye_blink_dim`); 0 for none, as GeneFace.
      frames: W, see `FrameEncoder`.
      attention: whether attention weighs the frames of a window (`with_att`); without it the middle frame is the condition.
    """

    features: int = 64
    blink_channels: int = 2
    frames: int = 1
    attention: bool = True

    @nn.compact
    def __call__(self, window: Float[Array, "B S ... C"], eye_openness: Float[Array, " B"]) -> Float[jax.Array, "B F"]:
        """Encodes windows of normalized motion [B, S, 204] ([B, S, W, 204] for W > 1); `eye_openness` is unused without blink channels."""
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


# -------- The radiance field (RAD-NeRF's field with GeneFace's landmark condition)
#
# Ye et al. 2023, "GeneFace", section 3.3; Tang et al. 2022, "Real-time Neural Radiance Talking Portrait Synthesis", section 3.


class FieldSample(NamedTuple):
    """The field at M points: density, color in [0, 1] and ambient coordinates in [-1, 1]."""

    sigma: Float[jax.Array, " M"]
    rgb: Float[jax.Array, "M 3"]
    ambient: Float[jax.Array, "M A"]


class Head(nn.Module):
    """Landmark-conditioned radiance field of one person's head.

    Attributes:
      position_grid: encoding of the position (D = 3).
      ambient_grid: encoding of the ambient coordinates (D = 2 or 3), through which the condition deforms the field.
      hidden: width of the density and ambient networks.
      hidden_color: width of the color network.
      geometry_features: size of the feature that the density network passes to the color network.
      condition_features: size of the condition.
      blink_channels, condition_frames, attention: see `ConditionEncoder`.
      codes: number of per-frame appearance codes (training frames); code 0 is used at inference.
      code_features: size of an appearance code.
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
        names = ("hidden", "hidden_color", "geometry_features", "condition_features", "blink_channels", "codes", "code_features", "bound")
        # Configs of earlier checkpoints don't have these two.
        optional = {name: model[name] for name in ("condition_frames", "attention") if name in model}
        sizes = {name: model[name] for name in names}
        return cls(grid_spec(model.position_grid), grid_spec(model.ambient_grid), **sizes, **optional)

    def setup(self) -> None:
        self.condition_encoder = ConditionEncoder(self.condition_features, self.blink_channels, self.condition_frames, self.attention)
        self.position_encoder = GridEncoder(self.position_grid, self.bound)
        self.ambient_encoder = GridEncoder(self.ambient_grid)
        self.ambient_net = Mlp(self.hidden, self.ambient_grid.dims, 3)
        self.sigma_net = Mlp(self.hidden, 1 + self.geometry_features, 3)
        self.color_net = Mlp(self.hidden_color, 3, 2)
        self.frame_codes = self.param("frame_codes", nn.initializers.normal(0.1), (self.codes, self.code_features))

    def condition(self, window: Float[Array, "B S ... C"], eye_openness: Float[Array, " B"]) -> Float[jax.Array, "B F"]:
        """The condition of windows, see `ConditionEncoder`."""
        return self.condition_encoder(window, eye_openness)

    def code(self, frame: Integer[Array, "*batch"]) -> Float[jax.Array, "*batch F"]:
        """Appearance codes of training frames."""
        return self.frame_codes[frame]

    def density(
        self, x: Float[Array, "M 3"], condition: Float[Array, "G C"], group: Integer[Array, " M"] | None = None
    ) -> tuple[Float[jax.Array, " M"], Float[jax.Array, "M F"], Float[jax.Array, "M A"]]:
        """Density, geometry feature and ambient coordinates of points; arguments as `__call__`."""
        position = self.position_encoder(x)
        ambient = jnp.tanh(self.ambient_net(position, condition, group))
        h = self.sigma_net(jnp.concatenate([position, self.ambient_encoder(ambient)], axis=-1))
        return trunc_exp(h[:, 0]), h[:, 1:], ambient

    def __call__(
        self,
        x: Float[Array, "M 3"],
        direction: Float[Array, "M 3"],
        condition: Float[Array, "G C"],
        code: Float[Array, "G K"],
        group: Integer[Array, " M"] | None = None,
    ) -> FieldSample:
        """Evaluates the field.

        Args:
          x: points in [-bound, bound].
          direction: unit viewing directions.
          condition, code: one row per frame.
          group: row of `condition` and `code` for each point; None takes row 0 for all.
        """
        sigma, geometry, ambient = self.density(x, condition, group)
        rgb = nn.sigmoid(self.color_net(jnp.concatenate([spherical_harmonics(direction, 4), geometry], axis=-1), code, group))
        return FieldSample(sigma, rgb, ambient)

    def initialize(self, window: Float[Array, "B S ... C"], eye_openness: Float[Array, " B"], x: Float[Array, "M 3"]) -> FieldSample:
        """Uses every parameter once: the method for `init`."""
        return self(x, x, self.condition(window, eye_openness)[:1], self.code(jnp.zeros(1, jnp.int32)))
