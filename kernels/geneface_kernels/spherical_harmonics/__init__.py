"""Real spherical harmonics as polynomials."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def spherical_harmonics_4(d: jax.Array) -> jax.Array:
    """Degree-4 basis (l = 0..3) of directions, Condon-Shortley sign kept; the input is not normalised.

    Args:
      d: [..., 3].

    Returns:
      [..., 16] float32 in the order l = 0..3, m = -l..l.
    """
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    x2, y2, z2 = x * x, y * y, z * z
    return jnp.stack(
        [
            jnp.full_like(x, 0.28209479177387814),
            -0.48860251190291987 * y,
            0.48860251190291987 * z,
            -0.48860251190291987 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.94617469575755997 * z2 - 0.31539156525251999,
            -1.0925484305920792 * x * z,
            0.54627421529603959 * (x2 - y2),
            0.59004358992664352 * y * (y2 - 3.0 * x2),
            2.8906114426405538 * x * y * z,
            0.45704579946446572 * y * (1.0 - 5.0 * z2),
            0.3731763325901154 * z * (5.0 * z2 - 3.0),
            0.45704579946446572 * x * (1.0 - 5.0 * z2),
            1.4453057213202769 * z * (x2 - y2),
            0.59004358992664352 * x * (3.0 * y2 - x2),
        ],
        axis=-1,
    )
