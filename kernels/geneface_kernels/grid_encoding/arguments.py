"""What every public function of grid encoding asks of its arguments."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels.grid_encoding.spec import GridSpec

TABLE_DTYPES = ("float32", "float16", "bfloat16")


def check_arguments(x: jax.Array, table: jax.Array, spec: GridSpec) -> None:
    """Raises ValueError where points or table do not fit `spec` in shape or dtype."""
    if x.ndim != 2 or x.shape[1] != spec.dims:
        raise ValueError(f"x must be [N, {spec.dims}] for this spec, got {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating, got {x.dtype}")
    if table.shape != (spec.rows, spec.features):
        raise ValueError(f"table must be [{spec.rows}, {spec.features}] for this spec, got {table.shape}")
    if table.dtype.name not in TABLE_DTYPES:
        raise ValueError(f"table must be {', '.join(TABLE_DTYPES[:-1])} or {TABLE_DTYPES[-1]}, got {table.dtype}")
