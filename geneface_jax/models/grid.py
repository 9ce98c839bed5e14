"""A grid encoding with its trainable table."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.grid_encoding import GridSpec, grid_encode


def table_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Uniform in [-1e-4, 1e-4] (instant-ngp)."""
    return jax.random.uniform(key, shape, dtype, -1e-4, 1e-4)


class GridEncoder(nn.Module):
    """[N, D] in [-bound, bound] -> [N, L * C]."""

    spec: GridSpec
    bound: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        table = self.param("table", table_init, (self.spec.rows, self.spec.features))
        return grid_encode((x + self.bound) / (2.0 * self.bound), table, self.spec)
