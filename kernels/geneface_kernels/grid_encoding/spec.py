"""The static shape of a multi-resolution grid: levels, resolutions, table rows, index rules.

Computed once on the host with the precision of the original (Müller et al. 2022, "Instant Neural Graphics Primitives", section 3; layout
of the RAD-NeRF kernels): table rows in double, scales and lattice sides in float32. A scale that is one ulp off changes a level's stride
and with it every row of that level.
"""

import dataclasses
import functools
import numbers
from typing import Any, Literal, NamedTuple

import numpy as np

PRIMES = (1, 2654435761, 805459861)
"""Spatial hash factors per dimension (Teschner et al. 2003)."""

LARGEST_RESOLUTION = 2**24
"""Float32 can't represent the cells of a finer lattice."""

EVERY_BIT = 2**32 - 1
"""Mask of a level whose index never leaves the table."""


class Level(NamedTuple):
    """Index rule of one level; Python numbers on the host, or scalars inside a loop or a kernel.

    Attributes:
      scale: a coordinate in [0, 1] becomes `x * scale` lattice units (plus half a cell unless corners are aligned).
      factors: D numbers; the index is the sum, or the XOR where `hashed`, of `position * factor` modulo 2**32.
      hashed: bool.
      rows: table rows of the level; the index is taken modulo `rows`.
      mask: `index & mask` equals `index % rows`; None if no mask does.
      offset: first table row of the level.
    """

    scale: Any
    factors: Any
    hashed: Any
    rows: Any
    mask: Any
    offset: Any


@dataclasses.dataclass(frozen=True)
class GridSpec:
    """Shape of a grid encoding.

    Attributes:
      dims: D, 2 or 3.
      levels: L.
      features: C, features per level: 1, 2, 4 or 8.
      base_resolution: resolution of level 0.
      finest_resolution: resolution of level L - 1; not used where `per_level_scale` is given.
      log2_table_size: a level has at most 2**log2_table_size rows.
      kind: index rule of levels whose lattice has more points than rows: a spatial hash, or ("tiled") the dense index wrapped.
      align_corners: lattice points lie on the border of [0, 1] (True) or half a cell outside of it (False).
      interpolation: "linear", or "smoothstep" for a continuous derivative.
      per_level_scale: growth of the resolution per level; None derives it from `finest_resolution`.

    Raises:
      ValueError: a field is out of range, or the table has 2**31 numbers or more.
    """

    dims: int = 3
    levels: int = 16
    features: int = 2
    base_resolution: int = 16
    finest_resolution: int = 2048
    log2_table_size: int = 16
    kind: Literal["hash", "tiled"] = "tiled"
    align_corners: bool = False
    interpolation: Literal["linear", "smoothstep"] = "linear"
    per_level_scale: float | None = None

    def __post_init__(self) -> None:
        _require(self.dims in (2, 3), "dims", self.dims, "2 or 3")
        _require(self.features in (1, 2, 4, 8), "features", self.features, "1, 2, 4 or 8")
        _require(self.kind in ("hash", "tiled"), "kind", self.kind, '"hash" or "tiled"')
        _require(self.interpolation in ("linear", "smoothstep"), "interpolation", self.interpolation, '"linear" or "smoothstep"')
        _require(isinstance(self.align_corners, (bool, np.bool_)), "align_corners", self.align_corners, "True or False")
        _require(_is_count(self.levels), "levels", self.levels, "a positive integer")
        _require(_is_count(self.base_resolution), "base_resolution", self.base_resolution, "a positive integer")
        _require(_is_count(self.log2_table_size) and self.log2_table_size < 31, "log2_table_size", self.log2_table_size, "1 to 30")
        if self.per_level_scale is None:
            fits = _is_count(self.finest_resolution) and self.finest_resolution >= self.base_resolution
            _require(fits, "finest_resolution", self.finest_resolution, f"an integer of at least base_resolution = {self.base_resolution}")
        else:
            _require(1.0 <= self.per_level_scale < np.inf, "per_level_scale", self.per_level_scale, "a finite number of at least 1")
        octaves = np.log2(self.base_resolution) + (self.levels - 1) * np.log2(self.growth)
        _require(
            octaves <= np.log2(LARGEST_RESOLUTION) + 1e-9,
            "levels",
            self.levels,
            f"few enough for a finest resolution of at most {LARGEST_RESOLUTION} (base_resolution {self.base_resolution} times "
            f"{self.growth:.4g} a level ends at 2**{octaves:.1f})",
        )
        _require(
            self._counts_in_int32(),
            "levels",
            self.levels,
            f"few enough, or log2_table_size (now {self.log2_table_size}) and features (now {self.features}) small enough, for a table of "
            f"less than 2**31 numbers",
        )

    @functools.cached_property
    def growth(self) -> np.float64:
        """Ratio of the resolutions of consecutive levels."""
        if self.per_level_scale is not None:
            return np.float64(self.per_level_scale)
        if self.levels == 1:
            return np.float64(1.0)
        # The same two roundings as the original: `rows` may depend on the last bit.
        return np.exp2(np.log2(self.finest_resolution / self.base_resolution) / (self.levels - 1))

    @functools.cached_property
    def scales(self) -> np.ndarray:
        """[L] float32: a coordinate in [0, 1] becomes `x * scale` lattice units."""
        # Rounded to float32 after every step, as in the original kernel; the exponential in double, because float32 exp2 is an ulp off on
        # some platforms (4097 instead of 4096 in XLA on CPU).
        exponents = np.arange(self.levels, dtype=np.float32) * np.float32(np.log2(self.growth))
        power = np.exp2(exponents.astype(np.float64)).astype(np.float32)
        return power * np.float32(self.base_resolution) - np.float32(1.0)

    @functools.cached_property
    def resolutions(self) -> np.ndarray:
        """[L] int64: lattice cells per side."""
        return np.ceil(self.scales).astype(np.int64) + 1

    def _rows_of(self, level: int) -> int:
        # Not from `resolutions`: the original computes the table size in double on the host, and the two may differ by one.
        side = int(np.ceil(self.base_resolution * self.growth**level)) + (not self.align_corners)
        return (min(2**self.log2_table_size, side**self.dims) + 7) // 8 * 8

    def _counts_in_int32(self) -> bool:
        total = 0
        for level in range(self.levels):
            total += self.features * self._rows_of(level)
            if total >= 2**31:
                return False
        return True

    @functools.cached_property
    def level_rows(self) -> np.ndarray:
        """[L] int64: table rows per level, a multiple of 8."""
        return np.array([self._rows_of(level) for level in range(self.levels)], np.int64)

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """[L + 1] int64: first table row of each level."""
        return np.concatenate([[0], np.cumsum(self.level_rows)])

    @property
    def rows(self) -> int:
        """Rows of the table, all levels together."""
        return int(self.offsets[-1])

    @property
    def output_dim(self) -> int:
        """L * C."""
        return self.levels * self.features

    @functools.cached_property
    def plan(self) -> tuple[Level, ...]:
        """The index rule of every level, in Python numbers."""
        return tuple(self._level(level) for level in range(self.levels))

    def _level(self, level: int) -> Level:
        rows = int(self.level_rows[level])
        side = int(self.resolutions[level]) + (not self.align_corners)
        factors, stride = [], 1
        for _ in range(self.dims):
            # A dimension whose stride exceeds the table is ignored: the wrapping rule of "tiled" levels that do not fit.
            fits = stride <= rows
            factors.append(stride if fits else 0)
            # Overflows modulo 2**32 as in the original, after which a stride may fit again.
            stride = stride * side % 2**32 if fits else stride
        hashed = self.kind == "hash" and stride > rows
        scale = self.scales[level]
        farthest = int(np.floor(scale + np.float32(0.0 if self.align_corners else 0.5))) + 1
        mask = None
        if rows & (rows - 1) == 0:
            mask = rows - 1
        elif not hashed and farthest * sum(factors) < rows:
            mask = EVERY_BIT
        return Level(float(scale), PRIMES[: self.dims] if hashed else tuple(factors), hashed, rows, mask, int(self.offsets[level]))

    @functools.cached_property
    def stacked_plan(self) -> Level:
        """`plan` as arrays with a leading axis of L, for loops over levels.

        `hashed` is one bool if all levels agree; `mask` is None if a level has none.
        """
        columns = Level(*zip(*self.plan, strict=True))
        hashed = columns.hashed[0] if len(set(columns.hashed)) == 1 else np.array(columns.hashed)
        mask = None if None in columns.mask else np.array(columns.mask, np.uint32)
        words = {name: np.array(getattr(columns, name), np.uint32) for name in ("factors", "rows", "offset")}
        return Level(scale=self.scales, hashed=hashed, mask=mask, **words)


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1


def _require(condition: bool | np.bool_, name: str, value: Any, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} of a GridSpec must be {expected}, got {value!r}")
