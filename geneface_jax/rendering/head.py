"""Frames of the head: cameras and conditions in, colour and alpha out."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from geneface_kernels.frame_rendering import FrameRender

from geneface_jax.models.head import FieldSample, Head
from geneface_jax.rendering.cameras import pixel_rays
from geneface_jax.rendering.frame import render_rays, wanted_samples
from geneface_jax.rendering.settings import MarchSettings


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
