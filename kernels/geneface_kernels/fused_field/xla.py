"""The same field as three ops one after the other, each of which leaves its result in memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels.compositing import Composite, composite_train
from geneface_kernels.fused_field.weights import FieldWeights
from geneface_kernels.grid_encoding import GridSpec, grid_encode


def render(
    origins, directions, t, counts, weights: FieldWeights, spec: GridSpec, *, step: float, bound: float, end_threshold: float
) -> Composite:
    """`render_field`; arguments as there."""
    rays, slots = t.shape
    points = origins[:, None] + directions[:, None] * t[..., None]
    unit = (points.reshape(-1, 3) + bound) / (2.0 * bound)
    features = grid_encode(unit, weights.table, spec, implementation="xla")
    logits = jax.nn.relu(features @ weights.hidden) @ weights.output
    ends = t.reshape(-1) + step
    return composite_train(
        jnp.exp(logits[:, 0]),
        jax.nn.sigmoid(logits[:, 1:]),
        jnp.zeros(rays * slots),
        jnp.stack([jnp.full_like(ends, step), ends], axis=1),
        jnp.arange(rays, dtype=jnp.int32) * slots,
        counts,
        max_samples=slots,
        end_threshold=end_threshold,
        implementation="xla",
    )
