"""Timed cases of marching: a batch of training rays and one inference round, through a hollow ellipsoid of occupied cells."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.bench import Call, Case
from geneface_kernels.ray_marching.marching import Marching
from geneface_kernels.ray_marching.step import march_step
from geneface_kernels.ray_marching.train import march_train

NEAR, FAR = 1.9, 2.9
"""Every ray of the scene has the same chord, so that the lattice points of a call can be counted on paper."""
MARCHING = Marching(resolution=128, dt_gamma=1.0 / 256.0, max_steps=16)
"""The released models' configuration."""
CONE = Marching(resolution=128, bound=2.0, cascades=2, dt_gamma=1.0 / 64.0, max_steps=128)
"""A large scene, where steps grow and cascades change."""
MEAN_SAMPLES = 8
"""Rows of the training buffer a ray."""

POINT_FLOPS = 72
"""Arithmetic of a lattice point: 12 for the point, 27 for the cell and its index, 28 for the exit, 5 for the step and the comparisons."""
RAY_BYTES = 4 * 9
"""Origin, direction, near, far and jitter."""


def cases() -> list[Case]:
    """Training with the released configuration and with cascades, and the first round of a 256 x 256 frame."""
    return [
        _train("one cascade, constant step", MARCHING, 4096, torch=True),
        _train("two cascades, cone step", CONE, 4096),
        _step(65_536, 4),
    ]


def lattice_points(marching: Marching) -> int:
    """Lattice points between `NEAR` and `FAR`."""
    t, count = NEAR, 0
    while t < FAR:
        t += min(max(t * marching.dt_gamma, marching.dt_min), marching.dt_max)
        count += 1
    return count


def _train(name: str, marching: Marching, n: int, *, torch: bool = False) -> Case:
    budget = n * MEAN_SAMPLES

    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _scene(n, marching)]
        compiled = jax.jit(lambda o, d, near, far, u, cells: march_train(o, d, near, far, u, cells, marching, budget, implementation))
        return lambda: compiled(*arrays)

    def torch_call() -> Call:
        import torch

        arrays = [torch.from_numpy(a) for a in _scene(n, marching)]
        return lambda: torch_march(arrays, marching, budget)

    points = n * lattice_points(marching)
    # The cells (one byte each) lie in the cache: what moves are rays and rows, so the ceiling is that of a copy.
    # One byte a cell; a row of the buffer is written whole, and its parameter is written and read once on the way.
    moved = points + n * RAY_BYTES + budget * 4 * (3 + 3 + 2 + 2 + 2)
    return Case(
        "ray_marching",
        f"training march, {n} rays, {name}",
        run,
        points,
        moved,
        points * POINT_FLOPS,
        torch_call if torch else None,
        pattern="copy",
    )


def _step(n: int, n_steps: int) -> Case:
    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _scene(n, MARCHING)]
        compiled = jax.jit(lambda o, d, t, far, u, cells: march_step(o, d, t, far, u, cells, MARCHING, n_steps, implementation))
        return lambda: compiled(*arrays)

    # Rays stop at their fourth sample; this counts them to the end.
    points = n * lattice_points(MARCHING)
    moved = points + n * RAY_BYTES + n * n_steps * 4 * (3 + 2 + 2)
    return Case("ray_marching", f"inference march, {n_steps} samples of {n} rays", run, points, moved, points * POINT_FLOPS, pattern="copy")


def torch_march(scene: list[Any], marching: Marching, budget: int) -> Any:
    """The training march of one cascade and a constant step in plain PyTorch: all lattice points at once, then the hits packed."""
    import torch

    rays_o, rays_d, near, far, noise, occupied = scene
    step, resolution, n = marching.dt_min, marching.resolution, len(rays_o)
    k = torch.arange(math.ceil((FAR - NEAR) / step))
    t = (near + noise * step)[:, None] + k * step
    points = (rays_o[:, None] + t[..., None] * rays_d[:, None]).clamp(-marching.bound, marching.bound)
    cell = (0.5 * (points / marching.bound + 1.0) * resolution).clamp(0, resolution - 1).long()
    hit = occupied[0, cell[..., 0], cell[..., 1], cell[..., 2]] & (t < far[:, None])
    hit &= hit.cumsum(1) <= marching.max_steps
    counts = hit.sum(1)
    ends = counts.cumsum(0)
    ray, at = (hit & (ends <= budget)[:, None]).nonzero(as_tuple=True)
    out = torch.zeros(budget, 8)
    used = len(ray)
    out[:used, :3], out[:used, 3:6] = points[ray, at], rays_d[ray]
    out[:used, 6], out[:used, 7] = step, t[ray, at] + step
    rows = torch.full((budget,), n)
    rows[:used] = ray
    return out, rows, ends - counts, counts


def _scene(n: int, marching: Marching) -> tuple[np.ndarray, ...]:
    """Rays of a pinhole camera, jittered, towards a shell of occupied cells: about 5 samples a ray that meets it."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-0.28, 0.28, (n, 2))
    directions = np.stack([pixels[:, 0], -np.ones(n), pixels[:, 1]], axis=-1)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to([0.0, 2.4, 0.0], (n, 3))
    grids = []
    for cascade in range(marching.cascades):
        half = min(2.0**cascade, marching.bound)
        centre = ((np.arange(marching.resolution) + 0.5) * (2.0 / marching.resolution) - 1.0) * half
        x, y, z = np.meshgrid(centre, centre, centre, indexing="ij")
        inside = (x / 0.55) ** 2 + (y / 0.35) ** 2 + (z / 0.4) ** 2 <= 1.0
        grids.append(inside & ((x / 0.5) ** 2 + (y / 0.3) ** 2 + (z / 0.35) ** 2 > 0.6))
    rays = [origins, directions, np.full(n, NEAR), np.full(n, FAR), rng.random(n)]
    return *(np.ascontiguousarray(a, dtype=np.float32) for a in rays), np.stack(grids)
