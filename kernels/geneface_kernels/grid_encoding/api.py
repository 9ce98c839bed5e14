"""Multi-resolution grid encoding (instant-ngp; hash and tiled): `grid_encode` with its gradients."""

import functools

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.grid_encoding import pallas, xla
from geneface_kernels.grid_encoding.spec import GridSpec
from geneface_kernels.typing import Array, Float, Float32

OP = "grid_encoding"

TABLE_DTYPES = ("float32", "float16", "bfloat16")


def check_arguments(x: Array, table: Array, spec: GridSpec) -> None:
    """Raises ValueError where points or table do not fit `spec` in shape or dtype."""
    if x.ndim != 2 or x.shape[1] != spec.dims:
        raise ValueError(f"x must be [N, {spec.dims}] for this spec, got {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating, got {x.dtype}")
    if table.shape != (spec.rows, spec.features):
        raise ValueError(f"table must be [{spec.rows}, {spec.features}] for this spec, got {table.shape}")
    if table.dtype.name not in TABLE_DTYPES:
        raise ValueError(f"table must be {', '.join(TABLE_DTYPES[:-1])} or {TABLE_DTYPES[-1]}, got {table.dtype}")


def grid_encode(
    x: Float[Array, "N D"], table: Float[Array, "rows C"], spec: GridSpec, implementation: Implementation = "auto"
) -> Float32[jax.Array, "N features"]:
    """Encodes points by interpolation in every level of a grid (Müller et al. 2022, section 3).

    Differentiable once by both arrays; on a cell face the input gradient is that of the cell above. Sums are float32 whatever the table's
    dtype; the table's gradient is cast to that dtype at the end.

    Args:
      x: points in [0, 1]. A point with a coordinate outside, or NaN, encodes to zeros and gives no gradient.
      table: float32, float16 or bfloat16; `spec.rows` rows.
      spec: the grid's shape (static).
      implementation: see `geneface_kernels.backend`.

    Returns:
      L * C features per point, level-major.

    Raises:
      ValueError: a shape or dtype does not fit.
      NotImplementedError: the implementation was named and can't run here.
    """
    check_arguments(x, table, spec)
    return _encode(jnp.asarray(x, jnp.float32), jnp.asarray(table), spec, backend.resolve(implementation, OP))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _encode(x: jax.Array, table: jax.Array, spec: GridSpec, choice: tuple[bool, bool]) -> jax.Array:
    use_pallas, interpret = choice
    return pallas.encode(x, table, spec, interpret) if use_pallas else xla.encode(x, table, spec)


def _encode_fwd(x, table, spec, choice):
    return _encode(x, table, spec, choice), (x, table)


def _encode_bwd(spec, choice, residuals, g):
    # Under jit XLA removes the gradient that is not used (marched positions are constants in training).
    (x, table), (use_pallas, interpret) = residuals, choice
    if use_pallas:
        g_x, g_table = pallas.input_gradient(x, table, g, spec, interpret), pallas.table_gradient(x, g, spec, interpret)
    else:
        g_x, g_table = xla.input_gradient(x, table, g, spec), xla.table_gradient(x, g, spec)
    return g_x, g_table.astype(table.dtype)


_encode.defvjp(_encode_fwd, _encode_bwd)
