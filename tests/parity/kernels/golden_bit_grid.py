"""Morton order and bit fields against the recorded results of the original kernels."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.occupancy import from_morton_order, morton_encode, unpack_bits

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare
from tests.parity.kernels.morton import morton_decode, pack_bits, to_morton_order

PREFIXES = ("morton_packbits_dilation",)


def check(file: GoldenFile, implementation: str) -> Iterator[Comparison]:
    """Everything is exact; `implementation` is ignored, this op has one."""
    del implementation
    coords, indices, grid = jnp.asarray(file["coords"]), jnp.asarray(file["indices"]), jnp.asarray(file["grid"])
    yield compare("indices", jax.jit(morton_encode)(coords), file["indices"])
    yield compare("coords", jax.jit(morton_decode)(indices), file["coords"])
    threshold = file.meta["density_thresh"]
    yield compare("bitfield", jax.jit(pack_bits)(grid, threshold), file["bitfield"])
    yield compare("bitfield, unpacked", unpack_bits(jnp.asarray(file["bitfield"])), file["grid"].reshape(-1) > np.float32(threshold))
    cube = jax.jit(from_morton_order)(grid)
    yield compare("grid, x slowest and back", jax.jit(to_morton_order)(cube), file["grid"])
    inside = np.asarray(coords).max(axis=-1) < cube.shape[-1]
    x, y, z = file["coords"][inside].T
    yield compare("grid, at coords", np.asarray(cube)[:, x, y, z], file["grid"][:, file["indices"][inside]])
