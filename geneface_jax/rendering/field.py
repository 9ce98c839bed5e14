"""Rendering the head's radiance field: march settings, inference frames, training rays, and carving the occupancy grid from masks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.compositing import Composite, composite_train
from geneface_kernels.frame_rendering import FrameMarch, FrameRender, count_samples, render_per_ray, render_single_pass
from geneface_kernels.ray_marching import Lattice, MarchConfig, march_rays, pack
from geneface_kernels.ray_marching.geometry import near_far_from_aabb
from ml_collections import ConfigDict
from scipy import interpolate, ndimage

from geneface_jax.models.head import FieldSample, Head
from geneface_jax.rendering.cameras import pixel_rays

# ----------------------------------------------------------------------------------------------------
# How rays are marched: one small static object shared by training and inference.


@dataclasses.dataclass(frozen=True)
class MarchSettings:
    """Static marching parameters.

    Attributes:
      aabb: (min xyz, max xyz) of the box rays are clipped to, in scene units; y (depth) is halved as in RAD-NeRF.
      min_near: closest sample to the camera.
      lattice: sample positions.
      max_samples: S, most samples of one ray.
      budget: mean samples a ray may use in training; a group of R rays has a buffer of R * budget rows.
    """

    aabb: tuple[float, ...]
    min_near: float
    lattice: Lattice
    max_samples: int
    budget: float

    def marching(self, resolution: int) -> MarchConfig:
        """The same for the kernels, with an occupancy grid of `resolution` cells per side."""
        return MarchConfig(
            bound=self.lattice.bound, resolution=resolution, max_steps=self.max_samples, dt_gamma=0.0, fixed_step=self.lattice.step
        )

    @staticmethod
    def from_config(march: ConfigDict) -> MarchSettings:
        """Reads `config.march` of a head config."""
        aabb = tuple(march.aabb)
        points = Lattice.points_for(aabb, march.step, march.max_angle_degrees)
        return MarchSettings(aabb, march.min_near, Lattice(march.step, points, march.bound), march.max_samples, march.budget)


# ----------------------------------------------------------------------------------------------------
# Whole frames of a radiance field: this project's settings and samples on top of `geneface_kernels.frame_rendering`.

Field = Callable[[jax.Array, jax.Array, jax.Array], FieldSample]
"""(points [M, 3], directions [M, 3], frame [M] int32 of each point) -> FieldSample."""


def render_rays(
    field: Field,
    rays_o: jax.Array,
    rays_d: jax.Array,
    occupied: jax.Array,
    settings: MarchSettings,
    end_threshold: jax.Array | float,
    *,
    budget: int | None = None,
) -> FrameRender:
    """Renders the rays of one frame or of a batch of frames, without jitter. Every ray stops by itself: none depends on its neighbours.

    Args:
      field: evaluated wherever a ray has a sample.
      rays_o, rays_d: [N, 3], or [F, N, 3] for F frames.
      occupied: [X, X, X] bool.
      settings: static.
      end_threshold: a ray ends when its transmittance falls below this.
      budget: None works through the live rays in rounds (a CPU's way). A number of samples (static) evaluates all of them in one pass (a
        GPU's way); rays beyond it are reported in `dropped`. `wanted_samples` says how many there are.
    """

    def sigma_rgb(points: jax.Array, directions: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        sample = field(points, directions, frame)
        return sample.sigma, sample.rgb

    if budget is None:
        return render_per_ray(sigma_rgb, rays_o, rays_d, occupied, frame_march(settings), end_threshold)
    return render_single_pass(sigma_rgb, rays_o, rays_d, occupied, frame_march(settings), end_threshold, budget=budget)


def wanted_samples(rays_o: jax.Array, rays_d: jax.Array, occupied: jax.Array, settings: MarchSettings) -> jax.Array:
    """[] int32: samples the rays of `render_rays` ask for."""
    return count_samples(rays_o, rays_d, occupied, frame_march(settings))


def frame_march(settings: MarchSettings) -> FrameMarch:
    """The part of the settings that a frame needs."""
    return FrameMarch(settings.aabb, settings.min_near, settings.lattice, settings.max_samples)


# ----------------------------------------------------------------------------------------------------
# Frames of the head: cameras and conditions in, colour and alpha out.


@functools.partial(jax.jit, static_argnames=("model", "settings", "size", "budget"))
def render_heads(
    model: Head,
    params: Any,
    occupied: jax.Array,
    poses: jax.Array,
    intrinsics: jax.Array,
    windows: jax.Array,
    eye_openness: jax.Array,
    end_threshold: jax.Array | float,
    *,
    settings: MarchSettings,
    size: tuple[int, int],
    budget: int | None = None,
) -> FrameRender:
    """Renders a batch of frames of the head in one call, with appearance code 0.

    Args:
      model, params: the head network.
      occupied: [X, X, X] bool.
      poses: [F, 4, 4] scene poses of the cameras.
      intrinsics: [4] fx, fy, cx, cy in pixels of `size`.
      windows: [F, W, 204] normalised motion around each frame.
      eye_openness: [F].
      end_threshold: transmittance that ends a ray.
      settings, size: static; size = (height, width).
      budget: samples of the whole batch, static; None works in rounds. See `render_rays`.

    Returns:
      Rays of [F, H * W].
    """
    variables = {"params": params}
    frames = poses.shape[0]
    condition = model.apply(variables, windows, eye_openness, method=Head.condition)
    code = model.apply(variables, jnp.zeros(frames, jnp.int32), method=Head.code)

    def field(points: jax.Array, directions: jax.Array, frame: jax.Array) -> FieldSample:
        # One frame has one condition: nothing to look up per point.
        return model.apply(variables, points, directions, condition, code, None if frames == 1 else frame)

    rays_o, rays_d = _frame_rays(poses, intrinsics, size)
    return render_rays(field, rays_o, rays_d, occupied, settings, end_threshold, budget=budget)


@functools.partial(jax.jit, static_argnames=("settings", "size"))
def head_samples(
    occupied: jax.Array, poses: jax.Array, intrinsics: jax.Array, *, settings: MarchSettings, size: tuple[int, int]
) -> jax.Array:
    """[] int32: samples that `render_heads` would evaluate if no ray ended early; what a budget must hold. Arguments as there."""
    return wanted_samples(*_frame_rays(poses, intrinsics, size), occupied, settings)


def render_head(
    model: Head,
    params: Any,
    occupied: jax.Array,
    pose: jax.Array,
    intrinsics: jax.Array,
    window: jax.Array,
    eye_openness: jax.Array,
    end_threshold: jax.Array | float,
    *,
    settings: MarchSettings,
    size: tuple[int, int],
) -> FrameRender:
    """Renders one frame: `render_heads` for a pose [4, 4], a window [W, 204] and an eye openness []. Returns rays of [H * W]."""
    eyes = jnp.reshape(eye_openness, (1,))
    out = render_heads(model, params, occupied, pose[None], intrinsics, window[None], eyes, end_threshold, settings=settings, size=size)
    return jax.tree.map(lambda a: a[0] if a.ndim else a, out)


def _frame_rays(poses: jax.Array, intrinsics: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Rays [F, H * W, 3] through all pixels, row by row."""
    rows, columns = jnp.meshgrid(jnp.arange(size[0]), jnp.arange(size[1]), indexing="ij")
    return pixel_rays(poses, intrinsics, rows.reshape(-1), columns.reshape(-1))


# ----------------------------------------------------------------------------------------------------
# Rendering a group of training rays: march, evaluate the packed samples, composite.


class TrainRender(NamedTuple):
    """Composite of [G * R] rays, which of them are complete ([G * R] bool; the others ran out of budget and are empty), and samples
    evaluated ([] int32)."""

    composite: Composite
    complete: jax.Array
    samples: jax.Array


def render_groups(
    field: Field, rays_o: jax.Array, rays_d: jax.Array, noise: jax.Array, occupied: jax.Array, settings: MarchSettings
) -> TrainRender:
    """Renders G groups of R rays, each group with a sample buffer of its own, so that the result does not depend on how groups are spread.

    Args:
      field: evaluates all groups' samples in one call.
      rays_o, rays_d: [G, R, 3].
      noise: [G, R] in [0, 1).
      occupied: [X, X, X] bool.
      settings: static.
    """
    groups, rays = noise.shape
    budget = int(rays * settings.budget)
    marching = settings.marching(occupied.shape[0])
    o, d = rays_o.reshape(-1, 3), rays_d.reshape(-1, 3)
    near, far = near_far_from_aabb(o, d, jnp.asarray(settings.aabb, jnp.float32), settings.min_near)
    t, counts = march_rays(o, d, near, far, noise.reshape(-1), occupied, marching, settings.max_samples)
    pack_group = jax.vmap(lambda o, d, t, counts: pack(o, d, t, counts, marching, budget))
    packed = pack_group(rays_o, rays_d, t.reshape(groups, rays, -1), counts.reshape(groups, rays))
    group = jnp.broadcast_to(jnp.arange(groups)[:, None], packed.ray.shape)
    sample = field(packed.points.reshape(-1, 3), packed.directions.reshape(-1, 3), group.reshape(-1))

    # One flat buffer of all groups: a group's rows begin at its number times the budget. Rays that did not fit have no rows.
    complete = packed.complete.reshape(-1)
    offsets = (packed.offsets + jnp.arange(groups, dtype=jnp.int32)[:, None] * budget).reshape(-1)
    out = composite_train(
        sample.sigma,
        sample.rgb,
        jnp.sum(jnp.abs(sample.ambient), axis=-1),
        packed.deltas.reshape(-1, 2),
        offsets,
        jnp.where(complete, counts, 0),
        max_samples=settings.max_samples,
    )
    # The op's depth is at the end of each step, as the original's; ours is at the sample.
    out = out._replace(depth=out.depth - out.alpha * marching.dt_min)
    return TrainRender(out, complete, jnp.sum(packed.ray < rays))


# ----------------------------------------------------------------------------------------------------
# Carving the occupancy grid: cells that no training camera sees inside the head's outline can never hold head.
#
# The original marks cells outside every camera's view (`mark_untrained_grid`); the head masks that the dataset carries anyway say much
# more, and on a CPU every cell less is time.


def carve(masks: np.ndarray, poses: np.ndarray, intrinsics: np.ndarray, resolution: int, bound: float, margin: float = 0.03) -> np.ndarray:
    """Which cells lie inside the (dilated) head mask of at least one frame.

    Args:
      masks: [F, H, W] uint8 head masks of a few training frames.
      poses: [F, 4, 4] scene poses of the same frames.
      intrinsics: [4] fx, fy, cx, cy.
      resolution: cells per side.
      bound: scene half extent.
      margin: dilation in fractions of the picture's height.

    Returns:
      [R, R, R] bool.
    """
    axis = (np.arange(resolution) + 0.5) * (2.0 * bound / resolution) - bound
    centers = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = np.zeros(len(centers), bool)
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    for mask, pose in zip(masks, np.asarray(poses, np.float64), strict=True):
        height, width = mask.shape
        if not (mask >= 128).any():
            continue
        # Half a cell's diagonal on screen joins the margin, so that thin parts survive a coarse grid.
        distance = np.linalg.norm(pose[:3, 3])
        reach = margin * height + fx * bound * np.sqrt(3) / resolution / distance
        near_mask = ndimage.distance_transform_edt(mask < 128) <= reach
        local = (centers - pose[:3, 3]) @ pose[:3, :3]
        depth = np.maximum(local[:, 2], 1e-6)
        column = np.floor(cx + fx * local[:, 0] / depth).astype(int)
        row = np.floor(cy + fy * local[:, 1] / depth).astype(int)
        inside = (local[:, 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        seen[inside] |= near_mask[row[inside], column[inside]]
    return seen.reshape(resolution, resolution, resolution)


def in_front_of_face(landmarks: np.ndarray, resolution: int, bound: float, margin: float) -> np.ndarray:
    """Which cells float in front of the face, where a head can't be.

    Masks of a person who hardly turns leave a long tunnel towards the camera; the landmarks know where the surface is. Without this
    the first samples of every ray are spent on the tunnel until its density has faded.

    Args:
      landmarks: [68, 3] the person's mean landmarks in scene units, scene axes (x up, y towards the camera, z right).
      resolution, bound: of the grid.
      margin: scene units in front of the surface that stay.

    Returns:
      [R, R, R] bool.
    """
    axis = (np.arange(resolution) + 0.5) * (2.0 * bound / resolution) - bound
    plane = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    surface = interpolate.griddata(landmarks[:, [0, 2]], landmarks[:, 1], plane, method="linear")
    nearest = interpolate.griddata(landmarks[:, [0, 2]], landmarks[:, 1], plane, method="nearest")
    surface = np.where(np.isnan(surface), nearest, surface)
    return axis[None, :, None] > surface[:, None, :] + margin
