"""Rendering the head's radiance field and the torso: march settings, frames, training rays, carving the occupancy grid from masks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.compositing import Composite, composite_train
from geneface_kernels.distortion import ray_distortion
from geneface_kernels.frame_rendering import FrameMarch, FrameRender, Occupied, count_samples, list_of, render_per_ray, render_single_pass
from geneface_kernels.ray_marching import Lattice, MarchConfig, march_rays, pack
from geneface_kernels.ray_marching.geometry import near_far_from_aabb
from ml_collections import ConfigDict
from scipy import interpolate, ndimage

from geneface_jax.models.head import FieldSample, Head
from geneface_jax.models.torso import CONDITIONS, Torso
from geneface_jax.rendering.cameras import image_coords, pixel_rays, pose_vector, project, scene_pose
from geneface_jax.typing import Array, Bool, Float, Integer, Num, UInt8

# -------- Settings of ray marching, shared by training and inference


@dataclasses.dataclass(frozen=True)
class MarchSettings:
    """Static marching parameters.

    Attributes:
      aabb: (min xyz, max xyz) of the box that rays are clipped to, in scene units; y (depth) is halved as in RAD-NeRF.
      min_near: distance of the closest sample to the camera.
      lattice: sample positions.
      max_samples: maximum number of samples of a ray.
      budget: mean samples per ray in training; a group of R rays has a buffer of R * budget rows.
    """

    aabb: tuple[float, ...]
    min_near: float
    lattice: Lattice
    max_samples: int
    budget: float

    def marching(self, resolution: int) -> MarchConfig:
        """The settings of the training kernels, for an occupancy grid of `resolution` cells per side."""
        return MarchConfig(
            bound=self.lattice.bound, resolution=resolution, max_steps=self.max_samples, dt_gamma=0.0, fixed_step=self.lattice.step
        )

    @property
    def frame_march(self) -> FrameMarch:
        """The settings of the frame rendering kernels."""
        return FrameMarch(self.aabb, self.min_near, self.lattice, self.max_samples)

    @staticmethod
    def from_config(march: ConfigDict) -> "MarchSettings":
        """Reads `config.march` of a head config."""
        aabb = tuple(march.aabb)
        points = Lattice.points_for(aabb, march.step, march.max_angle_degrees)
        return MarchSettings(aabb, march.min_near, Lattice(march.step, points, march.bound), march.max_samples, march.budget)


# -------- Inference frames

Field = Callable[[jax.Array, jax.Array, jax.Array], FieldSample]
"""(points [M, 3], directions [M, 3], frame [M] int32 of each point) -> FieldSample."""


def render_rays(
    field: Field,
    rays_o: Float[Array, "... N 3"],
    rays_d: Float[Array, "... N 3"],
    occupied: Occupied,
    settings: MarchSettings,
    end_threshold: Float[Array, ""] | float,
    *,
    budget: int | None = None,
    wanted: Bool[Array, "..."] | None = None,
) -> FrameRender:
    """Renders the rays of one frame ([N, 3]) or of a batch of frames ([F, N, 3]), without jitter and independently of each other.

    Args:
      field: evaluated at every sample.
      rays_o, rays_d: origins and directions.
      occupied: occupancy grid.
      settings: static.
      end_threshold: a ray ends when its transmittance falls below this.
      budget: None renders the live rays in rounds (for CPUs). A number of samples (static) evaluates all samples in one pass (for GPUs);
        rays beyond the budget are reported in `dropped`. `head_samples` counts the samples.
      wanted: rays to render, the others come out empty; None is all. Only without a budget.
    """

    def sigma_rgb(points: jax.Array, directions: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        sample = field(points, directions, frame)
        return sample.sigma, sample.rgb

    if budget is None:
        return render_per_ray(sigma_rgb, rays_o, rays_d, occupied, settings.frame_march, end_threshold, wanted=wanted)
    return render_single_pass(sigma_rgb, rays_o, rays_d, occupied, settings.frame_march, end_threshold, budget=budget)


@functools.partial(jax.jit, static_argnames=("model", "settings", "size", "budget"))
def render_heads(
    model: Head,
    params: Any,
    occupied: Occupied,
    poses: Float[Array, "F 4 4"],
    intrinsics: Float[Array, " 4"],
    windows: Float[Array, "F S ... C"],
    eye_openness: Float[Array, " F"],
    end_threshold: Float[Array, ""] | float,
    *,
    settings: MarchSettings,
    size: tuple[int, int],
    budget: int | None = None,
) -> FrameRender:
    """Renders a batch of frames of the head in one call, with appearance code 0; the rays are [F, H * W].

    Args:
      model, params: the head network.
      occupied: occupancy grid.
      poses: scene poses of the cameras.
      intrinsics: fx, fy, cx, cy in pixels of `size`.
      windows: normalized motion around each frame.
      eye_openness: of each frame.
      end_threshold, budget: see `render_rays`; the budget is that of the whole batch.
      settings, size: static; size = (height, width).
    """
    field = head_field(model, params, windows, eye_openness)
    rays_o, rays_d = frame_rays(poses, intrinsics, size)
    return render_rays(field, rays_o, rays_d, occupied, settings, end_threshold, budget=budget)


def head_field(model: Head, params: Any, windows: Float[Array, "F S ... C"], eye_openness: Float[Array, " F"]) -> Field:
    """The field of a head under the conditions of F frames, with appearance code 0."""
    variables = {"params": params}
    frames = len(windows)
    condition = model.apply(variables, windows, eye_openness, method=Head.condition)
    code = model.apply(variables, jnp.zeros(frames, jnp.int32), method=Head.code)

    def field(points: jax.Array, directions: jax.Array, frame: jax.Array) -> Any:
        # A single frame has one condition: no gather per point.
        return model.apply(variables, points, directions, condition, code, None if frames == 1 else frame)

    return field


@functools.partial(jax.jit, static_argnames=("settings", "size"))
def head_samples(
    occupied: Occupied,
    poses: Float[Array, "F 4 4"],
    intrinsics: Float[Array, " 4"],
    *,
    settings: MarchSettings,
    size: tuple[int, int],
) -> Integer[Array, ""]:
    """Samples that `render_heads` evaluates if no ray ends early: the budget that it needs. Arguments as there."""
    return count_samples(*frame_rays(poses, intrinsics, size), occupied, settings.frame_march)


def render_head(
    model: Head,
    params: Any,
    occupied: Occupied,
    pose: Float[Array, "4 4"],
    intrinsics: Float[Array, " 4"],
    window: Float[Array, "S ... C"],
    eye_openness: Float[Array, ""] | float | np.floating,
    end_threshold: Float[Array, ""] | float | np.floating,
    *,
    settings: MarchSettings,
    size: tuple[int, int],
) -> FrameRender:
    """`render_heads` for one frame; the rays are [H * W]."""
    eyes = jnp.reshape(eye_openness, (1,))
    out = render_heads(model, params, occupied, pose[None], intrinsics, window[None], eyes, end_threshold, settings=settings, size=size)
    return jax.tree.map(lambda a: a[0] if a.ndim else a, out)


def frame_rays(
    poses: Float[Array, "F 4 4"], intrinsics: Float[Array, " 4"], size: tuple[int, int]
) -> tuple[Float[jax.Array, "F N 3"], Float[jax.Array, "F N 3"]]:
    """Rays through all pixels in row-major order."""
    rows, columns = jnp.meshgrid(jnp.arange(size[0]), jnp.arange(size[1]), indexing="ij")
    return pixel_rays(poses, intrinsics, rows.reshape(-1), columns.reshape(-1))


# -------- Training rays: march, evaluate the packed samples, composite


class TrainRender(NamedTuple):
    """Rendered rays of all groups.

    Attributes:
      composite: of the G * R rays.
      complete: False for rays that exceeded the budget and are empty.
      samples: number of samples evaluated.
      distortion: of the rays, in steps (`geneface_kernels.distortion`).
    """

    composite: Composite
    complete: Bool[jax.Array, " N"]
    samples: Integer[jax.Array, ""]
    distortion: Float[jax.Array, " N"]


def render_groups(
    field: Field,
    rays_o: Float[Array, "G R 3"],
    rays_d: Float[Array, "G R 3"],
    noise: Float[Array, "G R"],
    occupied: Bool[Array, "X X X"],
    settings: MarchSettings,
) -> TrainRender:
    """Renders groups of rays, each with its own sample buffer, so that the result does not depend on the assignment of groups to devices.

    Args:
      field: evaluates the samples of all groups in one call.
      rays_o, rays_d: origins and directions.
      noise: jitter in [0, 1).
      occupied: occupancy grid.
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

    # One flat buffer of all groups: the rows of group g begin at g * budget. Rays that did not fit have no rows.
    complete = packed.complete.reshape(-1)
    offsets = (packed.offsets + jnp.arange(groups, dtype=jnp.int32)[:, None] * budget).reshape(-1)
    deltas, counts = packed.deltas.reshape(-1, 2), jnp.where(complete, counts, 0)
    ambient = jnp.sum(jnp.abs(sample.ambient), axis=-1)
    out = composite_train(sample.sigma, sample.rgb, ambient, deltas, offsets, counts, max_samples=settings.max_samples)
    # The kernel's depth is at the end of each step, as the original's; here it is at the sample.
    out = out._replace(depth=out.depth - out.alpha * marching.dt_min)
    # Not evaluated unless the caller uses it.
    distortion = ray_distortion(sample.sigma, deltas, offsets, counts, max_samples=settings.max_samples)
    return TrainRender(out, complete, jnp.sum(packed.ray < rays), distortion)


# -------- Carving the occupancy grid
#
# The original only excludes cells outside every camera's view (`mark_untrained_grid`). The dataset's head masks exclude many more, which
# saves time on CPUs.


def carve(
    masks: UInt8[np.ndarray, "F H W"],
    poses: Float[Array, "F 4 4"],
    intrinsics: Float[Array, " 4"],
    resolution: int,
    bound: float,
    margin: float = 0.03,
) -> Bool[np.ndarray, "{resolution} {resolution} {resolution}"]:
    """Cells inside the (dilated) head mask of at least one frame; all others can never contain the head.

    Args:
      masks: head masks of a few training frames.
      poses: scene poses of these frames.
      intrinsics: fx, fy, cx, cy in pixels.
      resolution: cells per side.
      bound: half extent of the scene.
      margin: dilation as a fraction of the picture's height.
    """
    axis = (np.arange(resolution) + 0.5) * (2.0 * bound / resolution) - bound
    centers = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = np.zeros(len(centers), bool)
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    for mask, pose in zip(masks, np.asarray(poses, np.float64), strict=True):
        height, width = mask.shape
        if not (mask >= 128).any():
            continue
        # The margin includes half a cell's diagonal on screen, so that thin parts survive a coarse grid.
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


def in_front_of_face(
    landmarks: Float[Array, "P 3"], resolution: int, bound: float, margin: float
) -> Bool[np.ndarray, "{resolution} {resolution} {resolution}"]:
    """Cells in front of the face, where the head can't be.

    Masks of a person who hardly turns leave a long tunnel towards the camera; the landmarks tell where the surface is. Without this the
    first samples of every ray are spent on the tunnel until its density has faded.

    Args:
      landmarks: the person's mean landmarks in scene units, scene axes (x up, y towards the camera, z right).
      resolution, bound: of the grid.
      margin: scene units in front of the surface that are kept.
    """
    axis = (np.arange(resolution) + 0.5) * (2.0 * bound / resolution) - bound
    plane = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    surface = interpolate.griddata(landmarks[:, [0, 2]], landmarks[:, 1], plane, method="linear")
    nearest = interpolate.griddata(landmarks[:, [0, 2]], landmarks[:, 1], plane, method="nearest")
    surface = np.where(np.isnan(surface), nearest, surface)
    return axis[None, :, None] > surface[:, None, :] + margin


# -------- Conditions of the torso's deformation, and rendering the torso over a background

JAW = slice(5, 12)
"""The seven points of the jaw (of 68) that condition GeneFace++'s torso: the chin and the jaw line next to it."""

JAW_WINDOW = 7
"""Frames of the moving average that removes tracking noise of the chin; GeneFace++ applies it only at inference."""


def torso_conditions(
    kind: str,
    cameras: Float[Array, "T 4 4"],
    motion: Float[Array, "T ..."],
    mean_face: Float[Array, "68 3"],
    intrinsics: Num[Array, " 4"],
    size: int,
) -> Float[np.ndarray, "T C"]:
    """Float32 condition of the torso in each frame, for training, evaluation and inference.

    Args:
      kind: "pose" (Euler angles and translation of the head's camera in the scene; 6 channels) or "jaw" (see `jaw_points`; 14 channels).
      cameras: camera to world (dataset convention).
      motion: [T, 68, 3] or [T, 204], not normalized.
      mean_face: decimeters.
      intrinsics: fx, fy, cx, cy in pixels of a picture of `size` pixels per side.
    """
    if kind == "pose":
        return np.asarray(pose_vector(scene_pose(cameras)), np.float32)
    if kind == "jaw":
        return jaw_points(cameras, motion, mean_face, intrinsics, size)
    raise ValueError(f"kind must be one of {', '.join(CONDITIONS)}, got {kind!r}")


def jaw_points(
    cameras: Float[Array, "T 4 4"],
    motion: Float[Array, "T ..."],
    mean_face: Float[Array, "68 3"],
    intrinsics: Num[Array, " 4"],
    size: int,
) -> Float[np.ndarray, "T 14"]:
    """Image coordinates of the jaw in fractions of the picture (x, y down), smoothed over `JAW_WINDOW` frames (mirrored ends).

    Arguments as for `torso_conditions`.
    """
    meters = (np.asarray(motion, np.float64).reshape(len(motion), -1, 3) / 10.0 + mean_face)[:, JAW] / 10.0
    pixels = project(meters, np.asarray(cameras, np.float64), np.asarray(intrinsics, np.float64))
    smooth = ndimage.uniform_filter1d(pixels / size, JAW_WINDOW, axis=0, mode="mirror" if len(pixels) > 1 else "nearest")
    return smooth.reshape(len(pixels), -1).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("model", "size"))
def render_torso(
    model: Torso,
    params: Any,
    condition: Float[Array, " C"],
    background: Float[Array, "N 3"],
    *,
    size: tuple[int, int],
    head: Float[Array, "N 4"] | None = None,
) -> tuple[Float[jax.Array, "N 3"], Float[jax.Array, " N"]]:
    """Renders the torso over a background with appearance code 0: (color, alpha) of the N = H * W pixels.

    Args:
      model, params: the torso network.
      condition: of one frame, from `torso_conditions`.
      background: in [0, 1].
      size: (height, width), static.
      head: premultiplied color and opacity of the head, for a head-aware torso; None for no head.
    """
    variables = {"params": params}
    code = model.apply(variables, jnp.zeros(1, jnp.int32), method=Torso.code)
    sample: Any = model.apply(variables, jnp.asarray(image_coords(*size)), condition[None], code, None, head)
    alpha = sample.alpha[:, None]
    return sample.rgb * alpha + background * (1.0 - alpha), sample.alpha


HIDDEN = 1.0 - 1.0 / 255
"""Opacity of the head behind which the torso changes a picture of 8 bits by less than a level."""

TORSO_BLOCK = 2048
"""Pixels of the torso that are evaluated at once."""


@functools.partial(jax.jit, static_argnames=("model", "size"))
def render_visible_torso(
    model: Torso,
    params: Any,
    condition: Float[Array, " C"],
    background: Float[Array, "N 3"],
    pixels: Integer[Array, " P"],
    head: Float[Array, "N 4"],
    *,
    size: tuple[int, int],
) -> tuple[Float[jax.Array, "N 3"], Float[jax.Array, " N"]]:
    """`render_torso` at some pixels, without those behind an opaque head; there and at all other pixels the background, alpha 0.

    Args:
      model, params, condition, background, size: as `render_torso`.
      pixels: numbers of the pixels, row by row, at which there may be a torso.
      head: premultiplied color and opacity of the head.
    """
    variables = {"params": params}
    code = model.apply(variables, jnp.zeros(1, jnp.int32), method=Torso.code)
    coords, head, count = jnp.asarray(image_coords(*size)), jnp.asarray(head), len(background)
    padded = max(-(-len(pixels) // TORSO_BLOCK), 1) * TORSO_BLOCK
    place, shown = list_of(jnp.pad(head[pixels, 3] < HIDDEN, (0, padded - len(pixels))))
    listed = jnp.pad(jnp.asarray(pixels), (0, padded + 1 - len(pixels)), constant_values=count)[place]

    def one_block(i: jax.Array, rgba: jax.Array) -> jax.Array:
        pixel = jax.lax.dynamic_slice_in_dim(listed, i * TORSO_BLOCK, TORSO_BLOCK)
        known = head.at[pixel].get(mode="fill", fill_value=0.0) if model.head_aware else None
        sample: Any = model.apply(variables, coords.at[pixel].get(mode="clip"), condition[None], code, None, known)
        return rgba.at[pixel].set(jnp.concatenate([sample.rgb, sample.alpha[:, None]], axis=1), mode="drop")

    blocks = -(-shown // TORSO_BLOCK)
    rgba = jax.lax.fori_loop(0, blocks, one_block, jnp.zeros((count, 4)))
    alpha = rgba[:, 3:]
    return rgba[:, :3] * alpha + background * (1.0 - alpha), rgba[:, 3]
