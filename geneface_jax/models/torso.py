"""The torso: a 2D picture that the head bends (RAD-NeRF section 3.3; GeneFace's and GeneFace++'s torso stages)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import frequency_encode
from geneface_kernels.grid_encoding import GridSpec

from geneface_jax.models.head import SLOPE
from geneface_jax.models.layers import GridEncoder, Mlp, grid_spec

if TYPE_CHECKING:
    from ml_collections import ConfigDict


CONDITIONS = {"pose": 6, "jaw": 14}
"""What bends the torso, and how many numbers that is: Euler angles and translation of the head's camera (GeneFace), or image coordinates
of seven points of the jaw (GeneFace++). `rendering.torso.torso_conditions` makes them."""

HEAD_CHANNELS = 4
"""What a pixel tells of the head in front of it: colour times opacity, and opacity."""


class TorsoSample(NamedTuple):
    """alpha [M], rgb [M, 3], both in [0, 1], and the deformation [M, 2] in image units."""

    alpha: jax.Array
    rgb: jax.Array
    deformation: jax.Array


class HeadEncoder(nn.Module):
    """[M, 4] colour and opacity of the head at a pixel -> [M, 16]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate((16, 32)):
            x = nn.leaky_relu(nn.Dense(width, name=f"dense_{i}")(x), SLOPE)
        return nn.Dense(16, name="dense_2")(x)


class Torso(nn.Module):
    """Deformable 2D field.

    Attributes:
      grid: encoding of the deformed coordinates (D = 2).
      codes, code_features: per-frame codes; code 0 at inference.
      hidden_deform, hidden: widths of the deformation and colour networks.
      shrink: coordinates are scaled by this first, so that deformed ones stay inside the grid.
      condition: a key of `CONDITIONS`.
      head_aware: whether the networks also see the head's picture at their pixel (`torso_head_aware`). The encoder of it is a parameter
        like any other: it is trained, and it is fed in every call.
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
        return cls(
            grid=grid_spec(model.grid),
            codes=model.codes,
            code_features=model.code_features,
            hidden_deform=model.hidden_deform,
            hidden=model.hidden,
            shrink=model.shrink,
            # Configs of earlier checkpoints don't have these two.
            condition=model.get("condition", "pose"),
            head_aware=model.get("head_aware", False),
        )

    def setup(self) -> None:
        if self.condition not in CONDITIONS:
            raise ValueError(f"a torso's condition is one of {', '.join(CONDITIONS)}, not {self.condition!r}")
        self.frame_codes = self.param("frame_codes", nn.initializers.normal(0.1), (self.codes, self.code_features))
        self.deform_net = Mlp(self.hidden_deform, 2, 3)
        self.encoder = GridEncoder(self.grid)
        self.canonical_net = Mlp(self.hidden, 4, 3)
        if self.head_aware:
            self.head_encoder = HeadEncoder()

    def code(self, frame: jax.Array) -> jax.Array:
        """Code [..., code_features] of training frames [...]."""
        return self.frame_codes[frame]

    def __call__(
        self,
        coords: jax.Array,
        condition: jax.Array,
        code: jax.Array,
        group: jax.Array | None = None,
        head: jax.Array | None = None,
    ) -> TorsoSample:
        """Evaluates the field.

        Args:
          coords: [M, 2] image coordinates in [-1, 1], (row, column).
          condition: [G, 6] or [G, 14], see `CONDITIONS`.
          code: [G, code_features].
          group: [M] int32 row of `condition` and `code` for each point; None takes row 0 for all.
          head: [M, 4] the head in front of each point, colour times opacity and opacity; None for no head there. Only a head-aware torso
            looks at it.

        Raises:
          ValueError: `condition` has another size than this torso's.
        """
        if condition.shape[-1] != CONDITIONS[self.condition]:
            raise ValueError(f"the condition must be [G, {CONDITIONS[self.condition]}] ({self.condition}), got {condition.shape}")
        x = coords * self.shrink
        encoded = frequency_encode(x, 10)
        shared = self._shared(frequency_encode(condition, 4), code)
        tail = None
        if self.head_aware:
            tail = self.head_encoder(jnp.zeros((len(coords), HEAD_CHANNELS)) if head is None else head)
        deformation = self.deform_net(encoded, shared, group, tail)
        moved = jnp.clip(x + deformation, -1.0, 1.0)
        out = self.canonical_net(jnp.concatenate([self.encoder(moved), encoded], axis=-1), shared, group, tail)
        return TorsoSample(nn.sigmoid(out[:, 0]), nn.sigmoid(out[:, 1:]), deformation)

    def _shared(self, condition: jax.Array, code: jax.Array) -> jax.Array:
        """GeneFace puts the code behind the pose, GeneFace++ in front of the landmarks."""
        return jnp.concatenate([condition, code] if self.condition == "pose" else [code, condition], axis=-1)

    def initialize(self, coords: jax.Array) -> TorsoSample:
        """Touches every parameter once; the method to `init` with."""
        return self(coords, jnp.zeros((1, CONDITIONS[self.condition])), self.code(jnp.zeros(1, jnp.int32)))
