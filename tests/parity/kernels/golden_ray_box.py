"""Ray/box and ray/sphere against the recorded results of the original kernels."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
from geneface_kernels.ray_marching.geometry import FAR_AWAY, near_far_from_aabb

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare
from tests.parity.kernels.sphere import sphere_coordinates

PREFIXES = ("near_far_sph",)


def check(file: GoldenFile, implementation: str) -> Iterator[Comparison]:
    """Nears, fars and sphere coordinates; `implementation` is ignored, this op has one."""
    del implementation
    found = jax.jit(near_far_from_aabb)(file["rays_o"], file["rays_d"], file["aabb"], file.meta["min_near"])
    for key, ours in zip(("nears", "fars"), found, strict=True):
        missed = file[key] == FAR_AWAY
        yield compare(f"{key}, missed rays", np.asarray(ours) == FAR_AWAY, missed)
        yield compare(key, ours, file[key], rtol=2e-6, where=~missed)
    coordinates, expected = np.asarray(jax.jit(sphere_coordinates)(file["sph_o"], file["sph_d"], file.meta["radius"])), file["sph_coords"]
    # The second column is an angle with period 2.
    turns = 2.0 * np.round((coordinates[:, 1] - expected[:, 1]) / 2.0)
    yield compare("sph_coords", np.stack([coordinates[:, 0], coordinates[:, 1] - turns], axis=1), expected, atol=2e-6)
