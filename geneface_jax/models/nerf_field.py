"""The field of the vanilla NeRF: a deep network on frequency-encoded positions (Mildenhall et al. 2020, conditioned as AD-NeRF)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.encodings import frequency_encode

from geneface_jax.models.joint_dense import JointDense


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
