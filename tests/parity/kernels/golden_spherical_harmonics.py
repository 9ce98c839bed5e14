"""Spherical harmonics against the recorded results of the original encoder."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.encodings import spherical_harmonics

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare

PREFIXES = ("sh_freq",)


def check(file: GoldenFile, implementation: str) -> Iterator[Comparison]:
    """Values, derivatives and input gradient; `implementation` is ignored, this op has one."""
    del implementation
    d = jnp.asarray(file["dirs"])
    degree = math.isqrt(file["sh"].shape[-1])

    @jax.jit
    def value_slope_gradient(d, upstream):
        slope = jax.vmap(jax.jacfwd(lambda one: spherical_harmonics(one, degree)))(d)
        value, vjp = jax.vjp(lambda many: spherical_harmonics(many, degree), d)
        return value, slope, vjp(upstream)[0]

    value, slope, gradient = value_slope_gradient(d, jnp.asarray(file["sh_grad_out"]))
    yield compare("sh", value, file["sh"], atol=2e-6)
    yield compare("sh_dy_dx", np.swapaxes(slope, 1, 2), file["sh_dy_dx"], atol=1e-5)
    yield compare("sh_grad_in", gradient, file["sh_grad_in"], atol=1e-5)
