"""Occupancy grids against the recorded results of the original's updates."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy
from geneface_kernels.occupancy import (
    cell_points,
    dilate,
    from_morton_order,
    occupancy_threshold,
    update_density,
)

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare
from tests.parity.kernels.morton import pack_bits, to_morton_order
from tests.parity.kernels.torso_plane import plane_cell_points, plane_lookup, plane_occupied, plane_update
from tests.parity.kernels.visibility import count_views, mark_untrained

PREFIXES = ("density_update_", "torso_update", "morton_packbits_dilation")


def check(file: GoldenFile, implementation: str) -> Iterator[Comparison]:
    """Everything a file of one of the prefixes holds; `implementation` is ignored, this op has one."""
    del implementation
    if file.name.startswith("density_update_"):
        yield from _check_density(file)
    elif file.name.startswith("torso_update"):
        yield from _check_torso(file)
    else:
        dilated = jax.jit(lambda grid: to_morton_order(dilate(from_morton_order(grid))))(jnp.asarray(file["grid"]))
        yield compare("grid_dilated", dilated, file["grid_dilated"])


def _check_density(file: GoldenFile) -> Iterator[Comparison]:
    """Cells seen by cameras, then two updates of all cascades with two analytic fields; or the second alone, from the recorded first."""
    meta = file.meta

    @jax.jit
    def start(poses: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = count_views(poses, meta["intrinsics"], meta["H"], meta["C"], meta["bound"])
        return to_morton_order(count), to_morton_order(mark_untrained(jnp.zeros(count.shape), count))

    sure = file["count_fragile"] == 0
    for key, found in zip(("count", "grid0"), start(jnp.asarray(file["poses"])), strict=True):
        yield compare(key, found, file[key], where=sure)

    @jax.jit
    def one_update(grid: jax.Array, noise: jax.Array, field: dict[str, jax.Array], theirs: jax.Array) -> tuple[jax.Array, ...]:
        # The noise of the first cascades may be missing; they are then taken as recorded.
        missing = meta["C"] - len(noise)
        noise = jnp.concatenate([jnp.zeros((missing, *noise.shape[1:])), noise])
        density = meta["density_scale"] * _density(cell_points(noise, meta["bound"]), field)
        grid = update_density(from_morton_order(grid), density, meta["decay"])
        grid = jnp.concatenate([from_morton_order(theirs)[:missing], grid[missing:]])
        ours = to_morton_order(grid)
        bits = pack_bits(ours, occupancy_threshold(grid, meta["density_thresh"]))
        occupied = pack_bits(to_morton_order(occupancy.occupied(grid, meta["density_thresh"])), 0.5)
        return ours, to_morton_order(dilate(density))[missing:], occupancy.mean_density(grid), bits, occupied

    # The updates start from the recorded grid, so that a fragile cell does not affect them.
    grid = jnp.asarray(file["grid0"])
    tolerance = {"rtol": 1e-5, "atol": 1e-4}
    for turn in ("1", "2"):
        if f"noise{turn}" not in file:
            grid = jnp.asarray(file[f"grid{turn}"])
            continue
        field = {name: jnp.asarray(values) for name, values in meta[f"field{turn}"].items()}
        grid, dilated, mean, bits, occupied = one_update(grid, jnp.asarray(file[f"noise{turn}"]), field, jnp.asarray(file[f"grid{turn}"]))
        yield compare(f"tmp_dilated{turn}", dilated, file[f"tmp_dilated{turn}"], **tolerance)
        yield compare(f"grid{turn}", grid, file[f"grid{turn}"], **tolerance)
        yield compare(f"mean{turn}", mean, meta[f"mean{turn}"], rtol=1e-5)
        yield compare(f"bitfield{turn}", bits, file[f"bitfield{turn}"])
        yield compare(f"bitfield{turn}, occupied", occupied, file[f"bitfield{turn}"])


def _density(points: jax.Array, field: dict[str, jax.Array]) -> jax.Array:
    """The recorded fields: a sum of Gaussians."""
    squared = jnp.sum((points[..., None, :] - field["centers"]) ** 2, axis=-1)
    return jnp.sum(field["amps"] * jnp.exp(-squared / (2.0 * field["radii"] ** 2)), axis=-1)


def _check_torso(file: GoldenFile) -> Iterator[Comparison]:
    """Two updates with an analytic opacity (or the second alone, from the recorded first), then the bilinear lookup and its mask."""
    meta = file.meta

    @jax.jit
    def one_update(grid: jax.Array, noise: jax.Array) -> jax.Array:
        points = plane_cell_points(noise) * meta["torso_shrink"]
        distance = jnp.linalg.norm(points - jnp.asarray(meta["alpha_center"]), axis=-1)
        alpha = jax.nn.sigmoid(meta["alpha_sharpness"] * (meta["alpha_radius"] - distance))
        return plane_update(grid, alpha, meta["decay"])

    grid, turns = jnp.zeros((meta["H"], meta["H"])), (1, 2)
    if len(file["noise"]) == 1:
        grid, turns = jnp.asarray(file["grid1"]).reshape(grid.shape).T, (2,)
    for turn, noise in zip(turns, file["noise"], strict=True):
        grid = one_update(grid, jnp.asarray(noise))
        yield compare(f"grid{turn}", grid.T.reshape(-1), file[f"grid{turn}"], atol=2e-6)
    yield compare("mean2", jnp.mean(grid), meta["mean2"], rtol=1e-5)
    points = jnp.asarray(file["bg_coords"])
    yield compare("occupancy", jax.jit(plane_lookup)(grid, points), file["occupancy"], atol=2e-6)
    limit = meta["density_thresh_torso"]
    sure = np.abs(file["occupancy"] - min(limit, meta["mean2"])) > 1e-5
    mask = jax.jit(plane_occupied)(grid, points, limit)
    yield compare("mask", np.asarray(mask).astype(np.uint8), file["mask"], where=sure)
