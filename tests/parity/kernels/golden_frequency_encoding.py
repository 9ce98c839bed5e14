"""Frequency encoding against the recorded results of the original encoder."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.encodings import frequency_encode

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare

PREFIXES = ("sh_freq",)

CASES = {"freq_xy": 5e-5, "freq_pose": 2e-6}
"""Case -> tolerance of the values: the recorded cosine is a shifted sine, with errors at the higher octaves of `freq_xy`."""


def check(file: GoldenFile, implementation: str) -> Iterator[Comparison]:
    """Values and input gradients; `implementation` is ignored, this op has one."""
    del implementation
    for case, tolerance in CASES.items():
        x, expected, gradient = jnp.asarray(file[f"{case}_x"]), file[f"{case}_out"], file[f"{case}_grad_in"]
        octaves = (expected.shape[-1] // x.shape[-1] - 1) // 2
        value, vjp = jax.vjp(jax.jit(lambda x, octaves=octaves: frequency_encode(x, octaves)), x)
        yield compare(f"{case}_out", value, expected, atol=tolerance)
        (found,) = vjp(jnp.asarray(file[f"{case}_grad_out"]))
        yield compare(f"{case}_grad_in", found, gradient, atol=3e-5 * float(np.abs(gradient).max()))
