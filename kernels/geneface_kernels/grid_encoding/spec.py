"""The static shape of a multi-resolution grid: levels, resolutions, table rows, index rules.

All numbers are worked out once on the host in double precision, because a scale that is one ulp off changes a level's stride and with it
every row of that level (Müller et al. 2022, "Instant Neural Graphics Primitives", section 3; layout of the RAD-NeRF kernels).
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

PRIMES = (1, 2654435761, 805459861)
"""Spatial hash factors per dimension (Teschner et al. 2003)."""


@dataclasses.dataclass(frozen=True)
class GridSpec:
    """Shape of a grid encoding.

    Attributes:
      dims: D, 2 or 3.
      levels: L.
      features: C, features per level.
      base_resolution: resolution of level 0.
      finest_resolution: resolution of level L - 1.
      log2_table_size: a level holds at most 2**log2_table_size rows.
      kind: "hash" or "tiled". They differ only on levels that do not fit: "hash" spreads points by a hash, "tiled" lets the dense index
      wrap.
    """

    dims: int = 3
    levels: int = 16
    features: int = 2
    base_resolution: int = 16
    finest_resolution: int = 2048
    log2_table_size: int = 16
    kind: str = "tiled"

    def __post_init__(self) -> None:
        if self.dims not in (2, 3):
            raise ValueError(f"dims must be 2 or 3, got {self.dims}")
        if self.kind not in ("hash", "tiled"):
            raise ValueError(f'kind must be "hash" or "tiled", got {self.kind!r}')
        if self.levels < 1 or self.features < 1:
            raise ValueError(f"levels and features must be positive, got {self.levels} and {self.features}")

    @functools.cached_property
    def _per_level_scale(self) -> float:
        if self.levels == 1:
            return 1.0
        return 2.0 ** (math.log2(self.finest_resolution / self.base_resolution) / (self.levels - 1))

    @functools.cached_property
    def scales(self) -> np.ndarray:
        """[L] float32: a coordinate in [0, 1] becomes `x * scale + 0.5` lattice units."""
        # The exponent is rounded to float32 as the original kernel rounds it, so that fine levels sample the same lattice to the last bit.
        exponents = np.arange(self.levels, dtype=np.float32) * np.float32(math.log2(self._per_level_scale))
        return (np.exp2(exponents.astype(np.float64)) * self.base_resolution - 1.0).astype(np.float32)

    @functools.cached_property
    def resolutions(self) -> np.ndarray:
        """[L] int: lattice cells per side. The rounding guard keeps an exact integer scale from being lifted by float noise."""
        return np.ceil(self.scales.astype(np.float64) - 1e-4 * (self.scales > 1)).astype(np.int64) + 1

    @functools.cached_property
    def level_rows(self) -> np.ndarray:
        """[L] int: table rows per level, a multiple of 8."""
        sides = np.ceil(self.base_resolution * self._per_level_scale ** np.arange(self.levels) - 1e-9).astype(np.int64) + 1
        rows = np.minimum(2**self.log2_table_size, sides**self.dims)
        return (rows + 7) // 8 * 8

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """[L + 1] int: first table row of each level."""
        return np.concatenate([[0], np.cumsum(self.level_rows)])

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return int(self.offsets[-1])

    @property
    def output_dim(self) -> int:
        """L * C."""
        return self.levels * self.features

    def strides(self, level: int) -> tuple[list[int], bool]:
        """Index strides of one level and whether it is hashed.

        A dimension whose stride already exceeds the table is left out (stride 0): the wrapping rule of "tiled" levels that do not fit.
        """
        side = int(self.resolutions[level]) + 1
        rows = int(self.level_rows[level])
        strides, stride = [], 1
        for _ in range(self.dims):
            strides.append(stride if stride <= rows else 0)
            if stride <= rows:
                stride *= side
        return strides, self.kind == "hash" and stride > rows

    @functools.cached_property
    def index_factors(self) -> tuple[np.ndarray, np.ndarray]:
        """([L, D] uint32 factors, [L] bool hashed): a row is the XOR (hashed) or the sum of `position * factor`, modulo the level's
        rows."""
        factors = np.zeros((self.levels, self.dims), np.uint32)
        hashed = np.zeros(self.levels, bool)
        for level in range(self.levels):
            strides, hashed[level] = self.strides(level)
            factors[level] = PRIMES[: self.dims] if hashed[level] else strides
        return factors, hashed
