"""Grid encoding against recorded results of the original kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.backend import Implementation
from geneface_kernels.grid_encoding import GridSpec, grid_encode

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare
from tests.parity.kernels.grid_jacobian import input_jacobian
from tests.parity.kernels.total_variation import total_variation_gradient

PREFIXES = ("grid_",)

_encode = jax.jit(grid_encode, static_argnums=(2, 3))
_jacobian = jax.jit(input_jacobian, static_argnums=2)
_total_variation = jax.jit(total_variation_gradient, static_argnums=2)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _value_and_gradients(x: jax.Array, table: jax.Array, g: jax.Array, spec: GridSpec, implementation: Implementation) -> Any:
    out, vjp = jax.vjp(lambda x, table: grid_encode(x, table, spec, implementation), x, table)
    return out, *vjp(g)


def check(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    """Compares every array of a file; `input_jacobian` and `total_variation_gradient` have one implementation.

    Results of points and values of table rows may be recorded for the first of them only, and the table's gradient not at all.
    """
    spec = spec_of(file.meta)
    yield compare("offsets", spec.offsets, file["offsets"])
    yield compare("scales", spec.scales, file["scales"], rtol=1e-6)
    yield compare("resolutions", spec.resolutions, file["resolutions"])
    table = _table(spec, file.meta["emb_seed"], file.meta.get("emb_amp", 1.0))
    for key in ("emb", "emb_head"):
        if key in file:
            yield compare(key, table[: len(file[key])], file[key])
    yield from _check_values(file, spec, jnp.asarray(table), implementation)
    if "out_f16" in file:
        yield from _check_half(file, spec, jnp.asarray(table, jnp.float16), implementation)
    if "tv_vals" in file:
        found = _total_variation(jnp.asarray(file["x"]), jnp.asarray(table), spec, file.meta["tv_weight"])
        yield from _compare_rows("tv", np.array(found), file["tv_rows"], file["tv_vals"], 1e-7)


def spec_of(meta: dict[str, Any]) -> GridSpec:
    """The `GridSpec` of a file."""
    finest = meta.get("desired_resolution")
    size = {"finest_resolution": int(finest)} if finest else {"per_level_scale": meta["per_level_scale"]}
    return GridSpec(
        dims=meta["D"],
        levels=meta["L"],
        features=meta["C"],
        base_resolution=meta["base_resolution"],
        log2_table_size=meta["log2_hashmap_size"],
        kind=meta["gridtype"],
        align_corners=meta["align_corners"],
        interpolation=meta["interpolation"],
        **size,
    )


def _check_values(file: GoldenFile, spec: GridSpec, table: jax.Array, implementation: Implementation) -> Iterator[Comparison]:
    x, finest = jnp.asarray(file["x"]), float(spec.scales[-1])
    out, grad_x, grad_table = _value_and_gradients(x, table, jnp.asarray(file["grad_out"]), spec, implementation)
    yield compare("out", out[: len(file["out"])], file["out"], atol=1e-7 * finest + 2e-6)
    # Next to a cell face the last bit of a coordinate decides which cell the derivative belongs to.
    theirs = file["grad_x"]
    safe = file["safe"][: len(theirs)].astype(bool)
    yield compare("grad_x", grad_x[: len(theirs)], theirs, atol=3e-4 * float(np.abs(theirs).max()), where=safe)
    if "grad_emb_vals" in file:
        atol = 3e-4 * float(np.abs(file["grad_emb_vals"]).max())
        yield from _compare_rows("grad_emb", np.array(grad_table), file["grad_emb_rows"], file["grad_emb_vals"], atol)
    yield _compare_jacobian("dy_dx", file, spec, table, 4e-7 * spec.scales + 5e-6)


def _check_half(file: GoldenFile, spec: GridSpec, table: jax.Array, implementation: Implementation) -> Iterator[Comparison]:
    """The original sums in half precision, we in float32: the difference is its rounding, up to 6e-4 per unit of the table."""
    amplitude = max(1.0, float(file.meta.get("emb_amp", 1.0)))
    out = _encode(jnp.asarray(file["x"][: len(file["out_f16"])]), table, spec, implementation)
    yield compare("out_f16", out, file["out_f16"], atol=2e-3 * amplitude)
    yield _compare_jacobian("dy_dx_f16", file, spec, table, 4e-7 * spec.scales + 2e-3 * amplitude)


def _compare_jacobian(key: str, file: GoldenFile, spec: GridSpec, table: jax.Array, atol_per_scale: np.ndarray) -> Comparison:
    """Each level's derivative in units of its scale, over that level's tolerance."""
    unit = (spec.scales * atol_per_scale)[:, None, None]
    theirs = file[key].astype(np.float64)
    found = np.asarray(_jacobian(jnp.asarray(file["x"][: len(theirs)]), table, spec), np.float64)
    return compare(key, found / unit, theirs / unit, atol=1.0, where=file["safe"][: len(theirs)])


def _compare_rows(key: str, found: np.ndarray, rows: np.ndarray, values: np.ndarray, atol: float) -> Iterator[Comparison]:
    """The listed rows (the first of them, where not all values were kept) within `atol`, all others exactly 0. Changes `found`."""
    yield compare(f"{key}_vals", found[rows[: len(values)]], values, atol=atol)
    found[rows] = 0.0
    yield compare(f"{key}_rows", found, np.zeros_like(found))


def _table(spec: GridSpec, seed: int, amplitude: float) -> np.ndarray:
    """[rows, C] float32, uniform in `amplitude` * [-0.5, 0.5): the integer hash that filled the recorded tables."""
    x = (np.arange(spec.rows * spec.features, dtype=np.uint64) + np.uint64(seed) * np.uint64(2654435769)).astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    uniform = (x >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24) - np.float32(0.5)
    return uniform.reshape(spec.rows, spec.features) * np.float32(amplitude)
