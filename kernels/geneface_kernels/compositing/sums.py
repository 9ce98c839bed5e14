"""What compositing gives for each ray."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Composite(NamedTuple):
    """Per-ray sums.

    Attributes:
      rgb: [N, 3] colour, not yet over a background.
      alpha: [N] sum of the weights.
      depth: [N] sum of weight * t.
      ambient: [N] sum of the per-sample ambient values up to the stop, unweighted unless weights were asked for.
      uncertainty: [N] sum of weight * uncertainty; None where no uncertainty was given.
    """

    rgb: jax.Array
    alpha: jax.Array
    depth: jax.Array
    ambient: jax.Array
    uncertainty: jax.Array | None = None
