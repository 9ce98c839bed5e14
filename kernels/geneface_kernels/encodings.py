"""Positional encodings: real spherical harmonics of a direction, and frequency encoding (sines and cosines)."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from geneface_kernels.typing import Array, Float, Float32

# -------- Spherical harmonics
#
# Y_lm is the m-th derivative of the Legendre polynomial P_l(z) times the real or imaginary part of (x + iy)^m. Both follow from short
# recurrences, which lose fewer digits in float32 near the poles than written-out powers of z do.

MAX_DEGREE = 8
"""Largest number of bands, that of the original encoder."""


def spherical_harmonics(d: Float[Array, "*batch 3"], degree: int) -> Float32[jax.Array, "*batch features"]:
    """Real spherical harmonics of the bands l = 0 .. degree - 1, with the Condon-Shortley sign.

    The input is not normalized. Where |d| != 1 the values are those of the polynomials (z^2 stays z^2 and 1 stays 1), as in the original
    encoder; on the unit sphere they are orthonormal.

    Args:
      d: directions; computed in float32.
      degree: number of bands, 1 to `MAX_DEGREE`.

    Returns:
      degree^2 values per direction in the order l = 0 .. degree - 1, m = -l .. l.

    Raises:
      ValueError: `d` does not end in three coordinates or is not floating-point, or `degree` is out of range.
    """
    if not isinstance(degree, int) or not 1 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree must be a whole number from 1 to {MAX_DEGREE}, got {degree!r}")
    d = jnp.asarray(d)
    if d.ndim == 0 or d.shape[-1] != 3 or not jnp.issubdtype(d.dtype, jnp.floating):
        raise ValueError(f"d must be floating-point directions of shape [..., 3], got {d.dtype} of shape {d.shape}")
    d = d.astype(jnp.float32)
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    values: dict[tuple[int, int], jax.Array] = {}
    real, imaginary = jnp.ones_like(x), jnp.zeros_like(x)  # of (x + iy)^m
    for m in range(degree):
        for band, legendre in enumerate(_legendre_derivatives(z, m, degree), start=m):
            scaled = _normalization(band, m) * legendre
            values[band, m] = scaled * real
            if m:
                values[band, -m] = scaled * imaginary
        real, imaginary = real * x - imaginary * y, real * y + imaginary * x
    return jnp.stack([values[band, m] for band in range(degree) for m in range(-band, band + 1)], axis=-1)


def _normalization(band: int, m: int) -> float:
    """Factor that makes Y_lm orthonormal on the unit sphere, with the Condon-Shortley sign."""
    squared = (2 * band + 1) / (4.0 * math.pi) * math.factorial(band - m) / math.factorial(band + m)
    return (-1.0) ** m * math.sqrt(2.0 * squared if m else squared)


def _legendre_derivatives(z: jax.Array, m: int, degree: int) -> Iterator[jax.Array]:
    """Yields d^m P_l / dz^m for l = m .. degree - 1 (Bonnet's recurrence, differentiated m times)."""
    previous = jnp.zeros_like(z)
    current = jnp.full_like(z, math.prod(range(1, 2 * m, 2)))
    for band in range(m, degree):
        yield current
        previous, current = current, ((2 * band + 1) * z * current - (band + m) * previous) / (band - m + 1)


# -------- Frequency encoding


def frequency_encode(x: Float[Array, "*batch D"], octaves: int) -> Float32[jax.Array, "*batch features"]:
    """[x, sin(x), cos(x), sin(2x), cos(2x), sin(4x), ...]: D * (1 + 2 * octaves) values in blocks of D.

    Mildenhall et al. 2020, "NeRF", equation 4, without its factor pi. The original uses a fast sine and takes the cosine as
    sin(x + pi/2), with errors up to 2e-5 at the tenth octave; here both are accurate to float32.

    Args:
      x: computed in float32.
      octaves: number of frequencies 1, 2, 4, ...

    Raises:
      ValueError: `x` is a scalar or not floating-point, or `octaves` is negative.
    """
    if not isinstance(octaves, int) or octaves < 0:
        raise ValueError(f"octaves must be a whole number that is not negative, got {octaves!r}")
    x = jnp.asarray(x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating-point coordinates of shape [..., D], got {x.dtype} of shape {x.shape}")
    x = x.astype(jnp.float32)
    blocks = [x]
    for octave in range(octaves):
        scaled = x * (2.0**octave)
        blocks += [jnp.sin(scaled), jnp.cos(scaled)]
    return jnp.concatenate(blocks, axis=-1)
