"""Comparison with recorded marches of the original kernels."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.backend import Implementation
from geneface_kernels.occupancy import from_morton_order, unpack_bits
from geneface_kernels.ray_marching.api import MarchedSamples, march_train
from geneface_kernels.ray_marching.geometry import MarchConfig

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare
from tests.parity.kernels.inference_step import march_step
from tests.parity.kernels.march_gradient import march_gradient

_march_train = jax.jit(march_train, static_argnames=("config", "budget", "implementation"))
_march_step = jax.jit(march_step, static_argnames=("config", "n_steps", "implementation"))
_cells_of = jax.jit(lambda bits, cascades: from_morton_order(unpack_bits(bits).reshape(cascades, -1)), static_argnums=1)
_march_gradient = jax.jit(march_gradient, static_argnames="n_rays")

PREFIXES = ("march_train_", "infer_single_")

POSITION = 5e-6
"""Absolute tolerance of sample positions and parameters."""


def check(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    """Compares one file; of `infer_single_` files the marching part only (golden_compositing.py compares the rest)."""
    return _train(file, implementation) if file.name.startswith("march_train_") else _step(file, implementation)


def _config_and_cells(file: GoldenFile) -> tuple[MarchConfig, jnp.ndarray]:
    """The configuration and the occupied cells of a file."""
    meta = file.meta
    config = MarchConfig(
        bound=meta["bound"], resolution=meta["H"], cascades=meta["C"], dt_gamma=meta["dt_gamma"], max_steps=meta["max_steps"]
    )
    return config, _cells_of(file["bitfield"], meta["C"])


def _train(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    """Training march, its overflow, and its gradient; compared ray by ray, since the original's order of rays is free."""
    config, occupied = _config_and_cells(file)
    rows = len(file["xyzs"])
    ray_ids, offsets, counts = file["rays"].T
    # Unless the buffer's size is part of the case, the buffer holds every sample.
    budget = rows if file.meta["M_is_buffer_limit"] else file.meta["N"] * config.max_steps
    inputs = (jnp.asarray(file[key]) for key in ("rays_o", "rays_d", "nears", "fars", "noises"))
    ours = _march_train(*inputs, occupied, config=config, budget=budget, implementation=implementation)

    stable = file["stable"][ray_ids].astype(bool)
    our_counts = np.asarray(ours.counts)[ray_ids]
    yield compare("rays: count", our_counts, counts, where=stable)
    yield compare("rays: each ray once", np.sort(ray_ids), np.arange(file.meta["N"]))
    if stable.all():
        yield compare("counter", [ours.total, len(ray_ids)], file["counter"])
    else:
        # Unstable rays may differ by a sample; the others must still add up.
        loose = file["counter"][0] - counts[~stable].sum(), file["counter"][1]
        yield compare("counter", [our_counts[stable].sum(), len(ray_ids)], loose)

    # An unstable ray may decide which later rays fit the buffer: only rays that both sides hold are compared.
    placed = (counts > 0) & (offsets + counts <= rows)
    if stable.all() and (np.diff(offsets) >= 0).all():
        yield compare("rays: offset", np.asarray(ours.offsets)[ray_ids], offsets)
        yield compare("rays: complete", np.asarray(ours.complete)[ray_ids][counts > 0], placed[counts > 0])
    both = stable & placed & np.asarray(ours.complete)[ray_ids] & (our_counts == counts)
    theirs_at = _row_numbers(offsets[both], counts[both])
    ours_at = _row_numbers(np.asarray(ours.offsets)[ray_ids][both], counts[both])
    yield compare("xyzs", np.asarray(ours.points)[ours_at], file["xyzs"][theirs_at], atol=POSITION)
    yield compare("dirs", np.asarray(ours.directions)[ours_at], file["dirs"][theirs_at])
    yield compare("deltas", np.asarray(ours.deltas)[ours_at], file["deltas"][theirs_at], atol=POSITION)
    yield from _unused_rows(ours, file, offsets[placed], counts[placed])
    yield from _gradient(file, ray_ids, offsets, counts, placed)


def _unused_rows(ours: MarchedSamples, file: GoldenFile, offsets: np.ndarray, counts: np.ndarray) -> Iterator[Comparison]:
    """Rows of no ray are zero, here and in the file."""
    unused = np.ones(len(file["xyzs"]), bool)
    unused[_row_numbers(offsets, counts)] = False
    yield compare("xyzs, dirs, deltas: rows recorded as unused", _rows(file, unused), np.zeros((unused.sum(), 8), np.float32))
    ours_unused = np.asarray(ours.ray) == len(file["rays"])
    flat = np.concatenate([ours.points, ours.directions, ours.deltas], axis=1)[ours_unused]
    yield compare("xyzs, dirs, deltas: unused rows", flat, np.zeros_like(flat))


def _row_numbers(offsets: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Buffer rows of rays, ray after ray."""
    return np.concatenate([np.zeros(0, int), *(first + np.arange(count) for first, count in zip(offsets, counts, strict=True))])


def _rows(file: GoldenFile, which: np.ndarray) -> np.ndarray:
    return np.concatenate([file[key][which] for key in ("xyzs", "dirs", "deltas")], axis=1)


def _gradient(file: GoldenFile, ray_ids: np.ndarray, offsets: np.ndarray, counts: np.ndarray, placed: np.ndarray) -> Iterator[Comparison]:
    """Backward pass of the recorded samples; the tolerance grows with their number, as it is one float32 sum per ray."""
    n = file.meta["N"]
    ray = np.full(len(file["xyzs"]), n, np.int32)
    ray[_row_numbers(offsets[placed], counts[placed])] = np.repeat(ray_ids[placed], counts[placed])
    inputs = (jnp.asarray(file[key]) for key in ("grad_xyzs", "grad_dirs", "deltas"))
    grads = _march_gradient(*inputs, jnp.asarray(ray), n_rays=n)
    tolerance = np.full(n, 1e-5, np.float32)
    tolerance[ray_ids] = 1e-5 * np.sqrt(np.maximum(counts, 1))
    for key, grad in zip(("grad_rays_o", "grad_rays_d"), grads, strict=True):
        yield compare(key, np.asarray(grad) / tolerance[:, None], file[key] / tolerance[:, None], atol=1.0)


def _step(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    """One round of inference; a slot's samples fill its first rows."""
    config, occupied = _config_and_cells(file)
    meta, alive = file.meta, file["rays_alive"]
    n, n_steps = meta["n_alive"], meta["n_step"]
    by_ray = [jnp.asarray(file[key][alive]) for key in ("rays_o", "rays_d", "rays_t", "fars")]
    noise = jnp.asarray(file["noises"])
    ours = _march_step(*by_ray, noise, occupied, config=config, n_steps=n_steps, implementation=implementation)
    stable = np.repeat(file["stable"][alive].astype(bool), n_steps)
    deltas = np.asarray(ours.deltas).reshape(-1, 2)
    recorded = {key: file[key][: n * n_steps] for key in ("xyzs", "dirs", "deltas")}
    filled = recorded["deltas"][:, 0] > 0
    directions = np.where(deltas[:, :1] > 0, np.repeat(file["rays_d"][alive], n_steps, axis=0), 0.0)

    yield compare("deltas: rows filled", deltas[:, 0] > 0, filled, where=stable)
    yield compare("xyzs", np.asarray(ours.points).reshape(-1, 3), recorded["xyzs"], atol=POSITION, where=stable)
    yield compare("dirs", directions, recorded["dirs"], where=stable)
    yield compare("deltas", deltas, recorded["deltas"], atol=POSITION, where=stable)
    yield compare("deltas: rows not filled", deltas[~filled & stable], recorded["deltas"][~filled & stable])
    for key in recorded:
        padding = file[key][n * n_steps :]
        yield compare(f"{key}: padding", padding, np.zeros_like(padding))
    # The march starts at `rays_t`; of the near ends only which rays miss is used.
    missed = file["nears"] == np.finfo(np.float32).max
    yield compare("nears", missed, file["fars"] == np.finfo(np.float32).max)
    without_samples = np.repeat(missed[alive], n_steps)
    yield compare("deltas: rays that miss", deltas[without_samples], np.zeros((without_samples.sum(), 2), np.float32))
