"""Parameters of the trial's field."""

from __future__ import annotations

from typing import NamedTuple

import jax


class FieldWeights(NamedTuple):
    """A 3D grid and a network of two layers without biases.

    Attributes:
      table: [spec.rows, C].
      hidden: [L * C, H] first layer, followed by a ReLU; H a power of two of at least 16 for the Pallas kernel.
      output: [H, 4] second layer: logarithm of the density, and three colours before the sigmoid.
    """

    table: jax.Array
    hidden: jax.Array
    output: jax.Array
