"""The small multilayer perceptrons of the radiance fields."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

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
    def __call__(
        self, x: jax.Array, shared: jax.Array | None = None, group: jax.Array | None = None, tail: jax.Array | None = None
    ) -> jax.Array:
        """Evaluates the network on [x, shared[group], tail] without building that array.

        Args:
          x: [M, C].
          shared: [G, D] further inputs that many rows have in common, or None.
          group: [M] int32 row of `shared` for each row of `x`; None takes row 0 for all.
          tail: [M, E] inputs of each row that follow the shared ones, or None; only with `shared`.

        Returns:
          [M, out].
        """
        if shared is None:
            x = nn.Dense(self.hidden, use_bias=False, kernel_init=UNIFORM_FAN_IN, name="dense_0")(x)
        else:
            x = SplitDense(self.hidden, name="dense_0")(x, shared, group, tail)
        for i in range(1, self.layers - 1):
            x = nn.Dense(self.hidden, use_bias=False, kernel_init=UNIFORM_FAN_IN, name=f"dense_{i}")(nn.relu(x))
        return nn.Dense(self.out, use_bias=False, kernel_init=UNIFORM_FAN_IN, name=f"dense_{self.layers - 1}")(nn.relu(x))


class SplitDense(nn.Module):
    """`Dense([x, shared[group], tail])` in parts, so that the shared one is multiplied once per group instead of once per row."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, shared: jax.Array, group: jax.Array | None, tail: jax.Array | None = None) -> jax.Array:
        width, end = x.shape[-1], x.shape[-1] + shared.shape[-1]
        inputs = end + (0 if tail is None else tail.shape[-1])
        kernel = self.param("kernel", UNIFORM_FAN_IN, (inputs, self.features))
        common = shared @ kernel[width:end]
        out = x @ kernel[:width] + (common[:1] if group is None else jnp.take(common, group, axis=0))
        return out if tail is None else out + tail @ kernel[end:]
