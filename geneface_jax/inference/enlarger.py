"""Super-resolution at inference: a composite rendered at half size becomes the frame."""

from __future__ import annotations

import functools
from typing import Any

import jax

from geneface_jax.inference.precision import in_precision
from geneface_jax.models.super_resolution import SuperResolution


class Enlarger:
    """A trained super-resolution network.

    Noise is off: the original draws a new one in every frame, which flickers.

    Attributes:
      size: pixels per side that it takes; it gives twice as many.
    """

    def __init__(self, network: SuperResolution, variables: Any):
        self._network, self._variables = network, variables
        self.size = network.size

    def in_precision(self, precision: str) -> Enlarger:
        """The same network kept in another dtype; see `precision.in_precision`."""
        return Enlarger(self._network, in_precision(self._variables, precision))

    def __call__(self, rgb: jax.Array) -> jax.Array:
        """[size * size, 3] in [0, 1] -> [2 size, 2 size, 3], not clipped."""
        return _enlarge(self._network, self._variables, rgb)


@functools.partial(jax.jit, static_argnames=("network",))
def _enlarge(network: SuperResolution, variables: Any, rgb: jax.Array) -> jax.Array:
    return network.apply(variables, rgb.reshape(1, network.size, network.size, 3))[0]
