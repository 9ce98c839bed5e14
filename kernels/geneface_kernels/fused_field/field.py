"""A radiance field along rays whose sample positions are known, as one op."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing import Composite
from geneface_kernels.fused_field import pallas, xla
from geneface_kernels.fused_field.weights import FieldWeights
from geneface_kernels.grid_encoding import GridSpec

OP = "fused_field"


def render_field(
    origins: jax.Array,
    directions: jax.Array,
    t: jax.Array,
    counts: jax.Array,
    weights: FieldWeights,
    spec: GridSpec,
    *,
    step: float,
    bound: float = 1.0,
    end_threshold: float = 1e-4,
    implementation: Implementation = "auto",
) -> Composite:
    """Colour, alpha and depth of rays through a field; not differentiable.

    Args:
      origins, directions: [N, 3].
      t: [N, S] ray parameter of each sample, ascending along a ray.
      counts: [N] int32, how many of the S are samples.
      weights: of the field.
      spec: shape of the grid, three-dimensional (static).
      step: length of a step; `depth` sums its end (static).
      bound: the grid covers [-bound, bound]^3; samples outside meet a grid of zeros (static).
      end_threshold: transmittance below which a ray has ended (static).
      implementation: see `geneface_kernels.backend`; "xla" evaluates all N * S slots, then composites.

    Returns:
      `Composite` of [N] rays; `ambient` is 0.

    Raises:
      ValueError: an array of the wrong shape, or a grid that is not three-dimensional.
      NotImplementedError: the implementation was named and can't run here.
    """
    if spec.dims != 3:
        raise ValueError(f"spec.dims must be 3, got {spec.dims}")
    if t.ndim != 2 or min(t.shape) < 1:
        raise ValueError(f"t must be [N, S] with neither of them 0, got {t.shape}")
    rays, width = t.shape[0], weights.hidden.shape[-1]
    wanted = {
        "origins": (origins, (rays, 3)),
        "directions": (directions, (rays, 3)),
        "counts": (counts, (rays,)),
        "weights.table": (weights.table, (spec.rows, spec.features)),
        "weights.hidden": (weights.hidden, (spec.output_dim, width)),
        "weights.output": (weights.output, (width, 4)),
    }
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} must be {list(shape)}, got {array.shape}")
    use_pallas, interpret = backend.resolve(implementation, OP)
    if use_pallas and (width < 16 or width & (width - 1)):
        raise ValueError(f"weights.hidden must have a power of two of at least 16 columns for the Pallas kernel, got {width}")
    settings = {"step": float(step), "bound": float(bound), "end_threshold": float(end_threshold)}
    counts = jnp.minimum(counts, t.shape[1]).astype(jnp.int32)
    origins, directions, t = (a.astype(jnp.float32) for a in (origins, directions, t))
    weights = jax.tree.map(lambda a: a.astype(jnp.float32), weights)
    if use_pallas:
        return pallas.render(origins, directions, t, counts, weights, spec, **settings, interpret=interpret)
    return xla.render(origins, directions, t, counts, weights, spec, **settings)
