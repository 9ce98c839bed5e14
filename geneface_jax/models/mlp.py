"""The small multilayer perceptrons of the radiance fields."""

from __future__ import annotations

import flax.linen as nn
import jax

UNIFORM_FAN_IN = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")
"""Uniform in +-1/sqrt(fan_in): the originals' default, three times less variance than Flax's. A torso that starts with large random
deformations does not recover from them."""


class Mlp(nn.Module):
    """Bias-free layers with ReLU between them (RAD-NeRF's MLP).

    Attributes:
      hidden: width of the hidden layers.
      out: width of the output.
      layers: number of linear layers.
    """

    hidden: int
    out: int
    layers: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(self.layers - 1):
            x = nn.relu(nn.Dense(self.hidden, use_bias=False, kernel_init=UNIFORM_FAN_IN, name=f"dense_{i}")(x))
        return nn.Dense(self.out, use_bias=False, kernel_init=UNIFORM_FAN_IN, name=f"dense_{self.layers - 1}")(x)
