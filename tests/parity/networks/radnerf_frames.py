"""Recorded cameras, rays and pictures of a RAD-NeRF head."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.frame_rendering import FrameRender
from geneface_kernels.ray_marching.geometry import Lattice, MarchConfig, near_far_from_aabb

from geneface_jax.models.head import FieldSample, Head
from geneface_jax.rendering.cameras import image_coords, pixel_rays, pose_vector, scene_pose
from geneface_jax.rendering.field import Field, MarchSettings, render_rays
from tests.parity.kernels.comparison import Comparison, compare
from tests.parity.kernels.reference_schedule import over_background, render_reference
from tests.parity.networks.fields import check_typical, occupied_cells
from tests.parity.networks.vectors import Vectors

RAY_ATOL, PICTURE_ATOL, PICTURE_MEDIAN = 2e-6, 1e-3, 1e-4
DEPTH_ATOL = 5e-3
"""The originals accumulate steps where we multiply: the last bits of a position change the density of the finest levels, and depth scales
that with the distance."""
SHARE_OFF = 0.01
"""Rounding gives some rays one sample more or less: at most this share of the samples of a frame."""

NUDGE = 1e-5
"""In steps: the rounding error of t."""
END_THRESHOLD = 1e-4
GRID_RESOLUTION = 128
STEP = 2.0 * math.sqrt(3.0) / GRID_RESOLUTION
MAX_ANGLE_DEGREES = 50.0
"""The marching parameters of every released config."""


def check_rays(vectors: Vectors) -> Iterator[Comparison]:
    """The scene pose, its pose vector, the rays, their box intersections, and the torso's pixel coordinates."""
    if not vectors.has("in_c2w", "in_intrinsics", "rays_o"):
        return
    size = math.isqrt(vectors.arrays["rays_o"].shape[1])
    pose = scene_pose(jnp.asarray(vectors["in_c2w"])[None])
    rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
    rays_o, rays_d = pixel_rays(pose, jnp.asarray(vectors["in_intrinsics"]), rows.reshape(-1), columns.reshape(-1))
    recorded = {
        "ngp_pose": pose,
        "pose6": pose_vector(pose),
        "rays_o": rays_o,
        "rays_d": rays_d,
        "bg_coords": image_coords(size, size)[None],
    }
    yield from vectors.compare(recorded, RAY_ATOL)
    if vectors.has("nears", "fars"):
        near, far = near_far_from_aabb(vectors["rays_o"][0], vectors["rays_d"][0], _aabb(vectors), vectors.meta["min_near"])
        yield from vectors.compare({"nears": near, "fars": far}, 1e-5, 1e-6)


def check_frames(
    vectors: Vectors, head: Head, variables: Any, weights: Mapping[str, np.ndarray], feature: str = "cond_feat", prefix: str = ""
) -> Iterator[Comparison]:
    """Pictures `<prefix>render[_ms<samples>]_*` by our renderer, and the longest one also by the original's schedule.

    That schedule gives all live rays the same number of samples per round, so their frame equals one of ours whose samples per ray are the
    sum over the recorded rounds.
    """
    if not vectors.has("rays_o", "rays_d", "in_bg_color", feature):
        return
    occupied = occupied_cells(weights)
    field = head_field(head, variables, jnp.asarray(vectors[feature]))
    rays = jnp.asarray(vectors["rays_o"][0]), jnp.asarray(vectors["rays_d"][0])
    near, far = near_far_from_aabb(*rays, _aabb(vectors), vectors.meta["min_near"])
    pictures = vectors.find(rf"({prefix}render(?:_ms(\d+)|_Tthresh([\d.]+))?)_rgb")
    for match in pictures:
        name, threshold = match[1], float(match[3] or END_THRESHOLD)
        stable = _stable(vectors, name)
        out = render_rays(field, *rays, occupied, march_settings(vectors, _samples_per_ray(vectors, match)), threshold)
        ours = per_ray_picture(out, vectors["in_bg_color"][0])
        # Theirs takes one more sample than ours after the threshold is passed, which adds at most `threshold` light.
        yield from check_typical(f"{name}_rgb", ours[None], vectors[f"{name}_rgb"], PICTURE_ATOL + threshold, PICTURE_MEDIAN, stable[None])
        if vectors.has(f"{name}_depth"):
            # Their depth is at the end of each step.
            depth = np.asarray(jnp.maximum(out.depth + out.alpha * STEP - near, 0.0) / (far - near))
            hit = stable.astype(bool) & (np.asarray(near) < 1e30)
            yield from check_typical(f"{name}_depth", depth[None], vectors[f"{name}_depth"], DEPTH_ATOL, PICTURE_MEDIAN, hit[None])
    traced = [match for match in pictures if vectors.has(f"{match[1]}_trace", f"{match[1]}_n_points")]
    if traced:
        longest = max(traced, key=lambda match: _max_steps(vectors, match))
        yield from _by_schedule(vectors, longest[1], _max_steps(vectors, longest), field, rays, occupied)


def _max_steps(vectors: Vectors, match: re.Match[str]) -> int:
    return int(match[2] or vectors.meta["max_steps"])


def _samples_per_ray(vectors: Vectors, match: re.Match[str]) -> int:
    """Maximum samples per ray of a recorded picture: the sum over the rounds, max_steps or slightly more."""
    name = match[1] if vectors.has(f"{match[1]}_trace") else "render"
    return int(vectors[f"{name}_trace"][:, 1].sum()) if vectors.has(f"{name}_trace") else _max_steps(vectors, match)


def _stable(vectors: Vectors, name: str) -> np.ndarray:
    """[N] rays whose samples do not depend on rounding, the same for all settings."""
    return vectors[f"{name}_stable" if vectors.has(f"{name}_stable") else "render_stable"]


def _by_schedule(
    vectors: Vectors, name: str, max_steps: int, field: Field, rays: tuple[jax.Array, jax.Array], occupied: jax.Array
) -> Iterator[Comparison]:
    """The original's loop, which distributes samples over the live rays: rounds, samples per ray, picture."""

    def sigma_rgb(points: jax.Array, directions: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        sample = field(points, directions, frame)
        return sample.sigma, sample.rgb

    stable = _stable(vectors, name)
    near, far = near_far_from_aabb(*rays, _aabb(vectors), vectors.meta["min_near"])
    marching = MarchConfig(float(vectors.meta["bound"]), GRID_RESOLUTION, dt_gamma=vectors.meta["dt_gamma"], max_steps=max_steps)
    jitter = jnp.asarray(entry_jitter(vectors, rays, near))
    out = render_reference(sigma_rgb, *rays, near, far, jitter, occupied[None], marching, END_THRESHOLD)
    rgb, depth = over_background(out, near, far, jnp.asarray(vectors["in_bg_color"][0]))
    for part, value in (("rgb", rgb), ("depth", depth)):
        if vectors.has(f"{name}_{part}"):
            theirs = vectors[f"{name}_{part}"]
            key = f"{name}_{part}, their schedule"
            yield from check_typical(key, np.asarray(value)[None], theirs, PICTURE_ATOL, PICTURE_MEDIAN, stable[None])
    yield compare(f"{name}_n_points", out.samples, vectors[f"{name}_n_points"], where=stable)
    theirs = vectors[f"{name}_trace"]
    yield compare(f"{name}_trace, samples per round", out.trace[:, 1], theirs[:, 1])
    yield compare(f"{name}_trace, rays alive", out.trace[:, 0], theirs[:, 0], atol=1.0, rtol=SHARE_OFF)
    yield compare(f"{name}_trace, samples", np.asarray(out.samples).sum(), theirs[:, 2].sum(), rtol=SHARE_OFF)


def head_field(head: Head, variables: Any, feature: jax.Array) -> Field:
    """The head under one condition [C] and appearance code 0, as a `Field`."""
    code = variables["params"]["frame_codes"][:1]

    def field(points: jax.Array, directions: jax.Array, frame: jax.Array) -> FieldSample:
        del frame
        return head.apply(variables, points, directions, feature[None], code)

    return field


def march_settings(vectors: Vectors, max_samples: int) -> MarchSettings:
    """Settings of our renderer with at most `max_samples` samples per ray."""
    aabb = tuple(float(value) for value in _aabb(vectors))
    lattice = Lattice(STEP, Lattice.points_for(aabb, STEP, MAX_ANGLE_DEGREES), float(vectors.meta["bound"]))
    return MarchSettings(aabb, vectors.meta["min_near"], lattice, max_samples, float(max_samples))


def entry_jitter(vectors: Vectors, rays: tuple[Any, Any], near: Any) -> np.ndarray:
    """[N] offsets of the ray starts in steps, 0 for nearly all rays.

    A ray enters the box on a face between two cells; which one depends on whether the product in `origin + t * direction` is rounded before
    the sum. For such rays the start is moved by `NUDGE` into the recorded cell.
    """
    origin, direction, t = (np.asarray(a, np.float32) for a in (*rays, near))
    hit = t < 1e30
    t = np.where(hit, t, 0.0).astype(np.float32)[:, None]
    theirs = _cell(origin + t * direction, vectors)

    def fused(start: np.ndarray) -> np.ndarray:
        return _cell((origin + start.astype(np.float64) * direction).astype(np.float32), vectors)

    jitter = np.zeros(len(t), np.float32)
    moved = hit & (fused(t) != theirs).any(1)
    for sign in (1.0, -1.0):
        fits = (fused(t + np.float32(sign * NUDGE * STEP)) == theirs).all(1)
        jitter[moved & fits] = sign * NUDGE
    return jitter


def _cell(points: np.ndarray, vectors: Vectors) -> np.ndarray:
    """Cell of the occupancy grid along each axis."""
    bound = float(vectors.meta["bound"])
    return np.floor(0.5 * (np.clip(points, -bound, bound) / np.float32(bound) + 1.0) * GRID_RESOLUTION)


def per_ray_picture(out: FrameRender, background: np.ndarray) -> np.ndarray:
    """[N, 3] in [0, 1]: the head over a background."""
    return np.clip(np.asarray(out.rgb) + (1.0 - np.asarray(out.alpha))[:, None] * background, 0.0, 1.0)


def _aabb(vectors: Vectors) -> jax.Array:
    """The box of the scene; its depth, the second axis, is halved."""
    bound = float(vectors.meta["bound"])
    return jnp.array([-bound, -bound / 2.0, -bound, bound, bound / 2.0, bound], jnp.float32)
