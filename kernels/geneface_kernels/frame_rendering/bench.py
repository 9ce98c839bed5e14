"""Timed cases: whole frames of a head-like ellipsoid, 40 % of the rays live and 6 samples a ray on average over all of them.

The field is a small network with fixed random weights, so that what is timed is marching, packing, one batch of matrix products, and
compositing. Frames per second of a real head, grids and torso included, are measured by scripts/bench_main_job.py.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.bench import Call, Case
from geneface_kernels.frame_rendering.budget import sufficient_budget
from geneface_kernels.frame_rendering.march import FrameMarch
from geneface_kernels.frame_rendering.per_ray import render_per_ray
from geneface_kernels.frame_rendering.single_pass import render_single_pass
from geneface_kernels.ray_marching import Lattice

OP = "frame_rendering"

STEP = 2.0 * math.sqrt(3.0) / 128
AABB = (-1.0, -0.5, -1.0, 1.0, 0.5, 1.0)
MARCH = FrameMarch(AABB, 0.05, Lattice(STEP, Lattice.points_for(AABB, STEP, 50.0)), max_samples=16)
RESOLUTION = 128
END_THRESHOLD = 1e-4
SEMI_AXES = (0.6, 0.42, 0.45)
"""Of the ellipsoid: up, depth, sideways. The depth gives 15 of 16 possible samples on a live ray."""
LIVE = 0.4
MEAN_SAMPLES = 6
CAMERA_DISTANCE = 4.0
OCTAVES, WIDTH = 5, 64
"""Of the field: sines and cosines of 3 coordinates, then layers of this width."""
FIELD_FLOPS = 2 * (6 * OCTAVES * WIDTH + WIDTH * WIDTH + WIDTH * 4)
LATTICE_FLOPS = 24
"""A lattice point: point 6, cell 12, comparison, gather and bit."""
SIZES = ((8, 256), (1, 512))
SMALL_SIZES = ((2, 32), (1, 48))


def cases(small: bool = False) -> list[Case]:
    """Both schedules on a batch of eight 256 x 256 frames and on one of 512 x 512.

    Args:
      small: pictures of a few dozen pixels, to try the code.
    """
    return [_case(schedule, *size) for size in (SMALL_SIZES if small else SIZES) for schedule in ("per_ray", "single_pass")]


def ellipsoid(resolution: int = RESOLUTION) -> np.ndarray:
    """[R, R, R] bool: cells whose centre lies in the ellipsoid."""
    axis = (np.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return (x / SEMI_AXES[0]) ** 2 + (y / SEMI_AXES[1]) ** 2 + (z / SEMI_AXES[2]) ** 2 < 1.0


def frame_rays(frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions [F, size^2, 3] of cameras in front, moved a little from frame to frame; `LIVE` of them meet the ellipsoid."""
    half_side = math.sqrt(math.pi * SEMI_AXES[0] * SEMI_AXES[2] / LIVE) / 2.0
    pixels = ((np.arange(size) + 0.5) / size * 2.0 - 1.0) * half_side
    x, z = np.meshgrid(pixels, pixels, indexing="ij")
    target = np.stack([x, np.zeros_like(x), z], axis=-1).reshape(1, -1, 3)
    shift = 0.1 * np.sin(np.arange(frames))[:, None, None] * np.array([0.0, 0.0, 1.0])
    origin = np.broadcast_to(np.array([0.0, CAMERA_DISTANCE, 0.0]) + shift, (frames, size * size, 3))
    direction = target - origin
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    return origin.astype(np.float32), direction.astype(np.float32)


def network(points: jax.Array, directions: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A field of `FIELD_FLOPS` per point, semi-transparent so that hardly a ray ends early."""
    del frame
    rng = np.random.default_rng(0)
    first, second, last = (
        jnp.asarray(rng.normal(size=(a, b)) / math.sqrt(a), jnp.float32) for a, b in ((6 * OCTAVES, WIDTH), (WIDTH, WIDTH), (WIDTH, 4))
    )
    turns = points[:, :, None] * (2.0 ** np.arange(OCTAVES, dtype=np.float32))
    waves = jnp.concatenate([jnp.sin(turns), jnp.cos(turns)], axis=-1).reshape(len(points), -1)
    out = jax.nn.relu(jax.nn.relu(waves @ first) @ second) @ last
    return 5.0 * jax.nn.sigmoid(out[:, 0]), jax.nn.sigmoid(out[:, 1:] + 0.1 * directions)


def _case(schedule: str, frames: int, size: int) -> Case:
    rays = frames * size * size
    samples = rays * MEAN_SAMPLES

    def run(implementation: str) -> Call:
        del implementation
        o, d = (jnp.asarray(a) for a in frame_rays(frames, size))
        occupied = jnp.asarray(ellipsoid())
        if schedule == "per_ray":
            render = jax.jit(lambda o, d, g: render_per_ray(network, o, d, g, MARCH, END_THRESHOLD).rgb)
        else:
            budget = sufficient_budget(samples)
            render = jax.jit(lambda o, d, g: render_single_pass(network, o, d, g, MARCH, END_THRESHOLD, budget=budget).rgb)
        return lambda: render(o, d, occupied)

    return Case(
        op=OP,
        name=f"{schedule}, {frames} x {size} x {size}, {LIVE:.0%} live, {MEAN_SAMPLES} samples a ray",
        run=run,
        samples=samples,
        # Rays in, pixels out, one cell a lattice point; a point, a direction, a density and a colour a sample.
        bytes_moved=rays * (24 + 20 + MARCH.lattice.points) + samples * 40,
        flops=samples * FIELD_FLOPS + rays * MARCH.lattice.points * LATTICE_FLOPS,
        implementations=("xla",),
        pattern="matmul",
    )
