"""The dtype in which a renderer keeps its networks (`--precision`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

PRECISIONS = ("fp32", "bf16")
"""What `--precision` takes. Networks are trained in fp32."""


def in_precision(parameters: Any, precision: str) -> Any:
    """Parameters as JAX arrays, the floating ones in the dtype asked for.

    With bf16 it is the numbers kept that are rounded, to 8 significant bits. Positions, encodings and sums stay float32: networks multiply
    float32 activations by rounded weights.

    Args:
      parameters: a tree of arrays.
      precision: one of `PRECISIONS`.
    """
    dtype = {"fp32": jnp.float32, "bf16": jnp.bfloat16}[precision]
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None), parameters)
