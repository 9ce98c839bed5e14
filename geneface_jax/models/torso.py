"""The torso: a 2D picture that the head's pose bends (RAD-NeRF section 3.3, GeneFace's torso stage)."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.frequency_encoding import frequency_encode
from geneface_kernels.grid_encoding import GridSpec

from geneface_jax.models.grid import GridEncoder
from geneface_jax.models.mlp import Mlp


class TorsoSample(NamedTuple):
    """alpha [M], rgb [M, 3], both in [0, 1], and the deformation [M, 2] in image units."""

    alpha: jax.Array
    rgb: jax.Array
    deformation: jax.Array


class Torso(nn.Module):
    """Deformable 2D field.

    Attributes:
      grid: encoding of the deformed coordinates (D = 2).
      codes, code_features: per-frame codes; code 0 at inference.
      hidden_deform, hidden: widths of the deformation and colour networks.
      shrink: coordinates are scaled by this first, so that deformed ones stay inside the grid.
    """

    grid: GridSpec
    codes: int = 13000
    code_features: int = 8
    hidden_deform: int = 64
    hidden: int = 32
    shrink: float = 0.8

    def setup(self) -> None:
        self.frame_codes = self.param("frame_codes", nn.initializers.normal(0.1), (self.codes, self.code_features))
        self.deform_net = Mlp(self.hidden_deform, 2, 3)
        self.encoder = GridEncoder(self.grid)
        self.canonical_net = Mlp(self.hidden, 4, 3)

    def code(self, frame: jax.Array) -> jax.Array:
        """Code [..., code_features] of training frames [...]."""
        return self.frame_codes[frame]

    def __call__(self, coords: jax.Array, pose: jax.Array, code: jax.Array, group: jax.Array | None = None) -> TorsoSample:
        """Evaluates the field.

        Args:
          coords: [M, 2] image coordinates in [-1, 1], (row, column).
          pose: [G, 6], Euler angles and translation of the head's camera (`rendering.cameras.pose_vector`).
          code: [G, code_features].
          group: [M] int32 row of `pose` and `code` for each point; None takes row 0 for all.
        """
        x = coords * self.shrink
        encoded = frequency_encode(x, 10)
        shared = jnp.concatenate([frequency_encode(pose, 4), code], axis=-1)
        deformation = self.deform_net(encoded, shared, group)
        moved = jnp.clip(x + deformation, -1.0, 1.0)
        out = self.canonical_net(jnp.concatenate([self.encoder(moved), encoded], axis=-1), shared, group)
        return TorsoSample(nn.sigmoid(out[:, 0]), nn.sigmoid(out[:, 1:]), deformation)

    def initialise(self, coords: jax.Array, pose: jax.Array) -> TorsoSample:
        """Touches every parameter once; the method to `init` with."""
        return self(coords, pose, self.code(jnp.zeros(1, jnp.int32)))
