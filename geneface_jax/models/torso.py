"""The torso: a 2D field deformed by the head's pose or jaw (RAD-NeRF section 3.3; GeneFace's and GeneFace++'s torso stages)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import frequency_encode
from geneface_kernels.grid_encoding import GridSpec
from geneface_kernels.typing import Array, Float, Integer

from geneface_jax.models.head import SLOPE
from geneface_jax.models.layers import GridEncoder, Mlp, grid_spec

if TYPE_CHECKING:
    from ml_collections import ConfigDict
else:
    ConfigDict = Any

CONDITIONS = {"pose": 6, "jaw": 14}
"""Kinds of condition of the deformation and their sizes: Euler angles and translation of the head's camera (GeneFace), or image
coordinates of seven points of the jaw (GeneFace++). `rendering.torso.torso_conditions` computes them."""

HEAD_CHANNELS = 4
"""Channels of the head's picture: premultiplied color, and opacity."""


class TorsoSample(NamedTuple):
    """Opacity and color, both in [0, 1], and the deformation in image units, at M points."""

    alpha: Float[jax.Array, " M"]
    rgb: Float[jax.Array, "M 3"]
    deformation: Float[jax.Array, "M 2"]


class HeadEncoder(nn.Module):
    """Encodes color and opacity of the head at a pixel."""

    @nn.compact
    def __call__(self, x: Float[Array, "M 4"]) -> Float[jax.Array, "M 16"]:
        for i, width in enumerate((16, 32)):
            x = nn.leaky_relu(nn.Dense(width, name=f"dense_{i}")(x), SLOPE)
        return nn.Dense(16, name="dense_2")(x)


class Torso(nn.Module):
    """Deformable 2D field.

    Attributes:
      grid: encoding of the deformed coordinates (D = 2).
      codes, code_features: number and size of the per-frame appearance codes; code 0 is used at inference.
      hidden_deform, hidden: widths of the deformation and color networks.
      shrink: coordinates are scaled by this first, so that deformed ones stay inside the grid.
      condition: a key of `CONDITIONS`.
      head_aware: whether the head's picture at the pixel is an input too (`torso_head_aware`). Its encoder is trained and used in every
        call (the original's is not trained, and is used in every second call).
    """

    grid: GridSpec
    codes: int = 13000
    code_features: int = 8
    hidden_deform: int = 64
    hidden: int = 32
    shrink: float = 0.8
    condition: str = "pose"
    head_aware: bool = False

    @classmethod
    def from_config(cls, model: ConfigDict) -> Torso:
        """The torso network of `config.model` (stage "torso")."""
        sizes = {name: model[name] for name in ("codes", "code_features", "hidden_deform", "hidden", "shrink")}
        # Configs of earlier checkpoints don't have these two.
        optional = {name: model[name] for name in ("condition", "head_aware") if name in model}
        return cls(grid_spec(model.grid), **sizes, **optional)

    def setup(self) -> None:
        if self.condition not in CONDITIONS:
            raise ValueError(f"condition must be one of {', '.join(CONDITIONS)}, got {self.condition!r}")
        self.frame_codes = self.param("frame_codes", nn.initializers.normal(0.1), (self.codes, self.code_features))
        self.deform_net = Mlp(self.hidden_deform, 2, 3)
        self.encoder = GridEncoder(self.grid)
        self.canonical_net = Mlp(self.hidden, 4, 3)
        if self.head_aware:
            self.head_encoder = HeadEncoder()

    def code(self, frame: Integer[Array, "*batch"]) -> Float[jax.Array, "*batch F"]:
        """Appearance codes of training frames."""
        return self.frame_codes[frame]

    def __call__(
        self,
        coords: Float[Array, "M 2"],
        condition: Float[Array, "G C"],
        code: Float[Array, "G K"],
        group: Integer[Array, " M"] | None = None,
        head: Float[Array, "M 4"] | None = None,
    ) -> TorsoSample:
        """Evaluates the field.

        Args:
          coords: image coordinates (row, column) in [-1, 1].
          condition: one row per frame, see `CONDITIONS`.
          code: one row per frame.
          group: row of `condition` and `code` for each point; None takes row 0 for all.
          head: premultiplied color and opacity of the head at each point; None for no head. Ignored unless `head_aware`.

        Raises:
          ValueError: `condition` has another size than this torso's.
        """
        if condition.shape[-1] != CONDITIONS[self.condition]:
            raise ValueError(f"condition must be [G, {CONDITIONS[self.condition]}] ({self.condition}), got {condition.shape}")
        x = coords * self.shrink
        encoded = frequency_encode(x, 10)
        shared = self._shared(frequency_encode(condition, 4), code)
        tail = None
        if self.head_aware:
            tail = self.head_encoder(jnp.zeros((len(coords), HEAD_CHANNELS)) if head is None else head)
        deformation = self.deform_net(encoded, shared, group, tail)
        deformed = jnp.clip(x + deformation, -1.0, 1.0)
        out = self.canonical_net(jnp.concatenate([self.encoder(deformed), encoded], axis=-1), shared, group, tail)
        return TorsoSample(nn.sigmoid(out[:, 0]), nn.sigmoid(out[:, 1:]), deformation)

    def _shared(self, condition: Float[Array, "G C"], code: Float[Array, "G K"]) -> Float[jax.Array, "G D"]:
        """GeneFace appends the code to the pose, GeneFace++ prepends it to the landmarks."""
        return jnp.concatenate([condition, code] if self.condition == "pose" else [code, condition], axis=-1)

    def initialize(self, coords: Float[Array, "M 2"]) -> TorsoSample:
        """Uses every parameter once: the method for `init`."""
        return self(coords, jnp.zeros((1, CONDITIONS[self.condition])), self.code(jnp.zeros(1, jnp.int32)))
