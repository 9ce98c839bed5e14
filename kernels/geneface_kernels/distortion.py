"""Distortion of rays: how far apart the samples are that make a pixel; a loss that turns fog into surfaces."""

import jax
import jax.numpy as jnp

from geneface_kernels.typing import Array, Float, Float32, Integer


def ray_distortion(
    sigma: Float[Array, " M"],
    deltas: Float[Array, "M 2"],
    offsets: Integer[Array, " N"],
    counts: Integer[Array, " N"],
    *,
    max_samples: int,
) -> Float32[jax.Array, " N"]:
    """Distortion of packed rays in steps (Barron et al. 2022, "Mip-NeRF 360", equation 15).

    With weights w and positions s in lengths of the ray's first step: sum over i, j of w_i w_j |s_i - s_j|, plus a third of the sum of
    w_i^2 times its own step. A ray whose light stops in one sample has 1/3, one that spreads it over n samples about n/3, an empty one 0.
    Differentiable by sigma; a row that no ray visits has no effect.

    Args:
      sigma: density, at least 0.
      deltas: (length of the step, ray parameter at its end).
      offsets: first row of each ray.
      counts: samples of each ray.
      max_samples: most samples per ray (static).

    Raises:
      ValueError: shapes don't fit.
    """
    if sigma.ndim != 1 or deltas.shape != (*sigma.shape, 2):
        raise ValueError(f"sigma must be [M] and deltas [M, 2], got {sigma.shape} and {deltas.shape}")
    if offsets.ndim != 1 or counts.shape != offsets.shape:
        raise ValueError(f"offsets and counts must be [N], got {offsets.shape} and {counts.shape}")
    sample = jnp.arange(max_samples)
    valid = sample < counts[:, None]
    row = jnp.where(valid, offsets[:, None] + sample, 0)
    # Masked before anything is computed: row 0 may be nobody's, and NaN in it must not reach a value or a gradient.
    density, step, end = (jnp.where(valid, values[row], 0.0) for values in (sigma, deltas[:, 0], deltas[:, 1]))
    optical = density * step
    weight = jnp.exp(jnp.cumsum(-optical, axis=1) + optical) * -jnp.expm1(-optical)
    # Positions from the first sample on, in first steps: no digits are lost to the distance of the camera.
    unit = jnp.where(counts > 0, step[:, 0], 1.0)[:, None]
    position, width = jnp.where(valid, end - end[:, :1], 0.0) / unit, step / unit
    # Samples are in order, so |s_i - s_j| has the same sign for all earlier j: two running sums instead of all pairs.
    mass, moment = jnp.cumsum(weight, axis=1) - weight, jnp.cumsum(weight * position, axis=1) - weight * position
    return jnp.sum(weight * (2.0 * (position * mass - moment) + weight * width / 3.0), axis=1)
