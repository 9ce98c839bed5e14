"""A dense layer on inputs that vary at different rates: some per sample, some per ray, some once per frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax

from geneface_jax.models.layers_1d import uniform_fan_in


class JointDense(nn.Module):
    """`Dense(concatenate(parts))` without building the concatenation: each part is multiplied at its own rate, and the products are added.

    A condition that a whole frame shares is multiplied once instead of once per sample. Parameters are those of the layer on the
    concatenation, `kernel` [sum of C, features] and `bias` [features], with PyTorch's default start.

    Attributes:
      features: size of the output.
      bias_start: added to the first values of the bias.
    """

    features: int
    bias_start: float = 0.0

    @nn.compact
    def __call__(self, parts: Sequence[jax.Array]) -> jax.Array:
        """Parts [..., C_i] whose leading axes broadcast -> [..., features]."""
        widths = [part.shape[-1] for part in parts]
        init = uniform_fan_in(sum(widths))
        kernel = self.param("kernel", init, (sum(widths), self.features))
        out = self.param("bias", lambda rng, shape: init(rng, shape) + self.bias_start, (self.features,))
        # The smallest first, so that the sum only grows to the full size at the end.
        begins = [sum(widths[:i]) for i in range(len(widths))]
        for i in sorted(range(len(parts)), key=lambda i: math.prod(parts[i].shape[:-1])):
            out = out + parts[i] @ kernel[begins[i] : begins[i] + widths[i]]
        return out
