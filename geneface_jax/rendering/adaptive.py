"""Adaptive rays: half the rays per side everywhere, and a ray through every pixel only where the picture has detail."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.frame_rendering import FrameRender, Occupied

from geneface_jax.models.head import Head
from geneface_jax.rendering.field import MarchSettings, frame_rays, head_field, render_heads, render_rays
from geneface_jax.typing import Array, Bool, Float, Integer

DETAIL, OUTLINE = 0.18, 0.06
"""Differences to a neighboring pixel of the half-size picture, in color and in opacity (0..1), from which on a place gets all rays. Color
within a head may be interpolated more boldly than its outline, beside which a halo would show."""

QUARTER = (-0.0703125, 0.8671875, 0.2265625, -0.0234375)
"""Weights of four neighboring pixels a quarter of a pixel after the second one."""


@functools.partial(jax.jit, static_argnames=("model", "settings", "size"))
def render_heads_adaptively(
    model: Head,
    params: Any,
    occupied: Occupied,
    poses: Float[Array, "F 4 4"],
    intrinsics: Float[Array, " 4"],
    windows: Float[Array, "F S ... C"],
    eye_openness: Float[Array, " F"],
    end_threshold: Float[Array, ""] | float,
    boxes: Integer[Array, "F K 4"],
    *,
    settings: MarchSettings,
    size: tuple[int, int],
) -> FrameRender:
    """`field.render_heads` in which smooth places are interpolated between the rays of a picture of half the size.

    Args:
      boxes: x0, y0, x1, y1 in pixels of `size`: places of a frame that get all rays whatever they look like (mouth and eyes).
      size: (height, width), even.

    The other arguments are those of `render_heads`. `samples` counts both passes; depth is interpolated like color.
    """
    height, width = size
    frames, half = poses.shape[0], (height // 2, width // 2)
    coarse = render_heads(
        model, params, occupied, poses, intrinsics / 2, windows, eye_openness, end_threshold, settings=settings, size=half
    )
    packed = jnp.concatenate([coarse.rgb, coarse.alpha[..., None], coarse.depth[..., None]], axis=-1).reshape(frames, *half, 5)
    enlarged = doubled(packed).reshape(frames, -1, 5)
    wanted = (_has_detail(packed[..., :4]) | _in_boxes(boxes, half)).repeat(2, axis=1).repeat(2, axis=2).reshape(frames, -1)
    field = head_field(model, params, windows, eye_openness)
    rays_o, rays_d = frame_rays(poses, intrinsics, size)
    fine = render_rays(field, rays_o, rays_d, occupied, settings, end_threshold, wanted=wanted)
    pick = wanted[..., None]
    return fine._replace(
        rgb=jnp.where(pick, fine.rgb, jnp.clip(enlarged[..., :3], 0.0, 1.0)),
        alpha=jnp.where(wanted, fine.alpha, jnp.clip(enlarged[..., 3], 0.0, 1.0)),
        depth=jnp.where(wanted, fine.depth, enlarged[..., 4]),
        samples=fine.samples + coarse.samples,
    )


def doubled(picture: Float[jax.Array, "F H W C"]) -> Float[jax.Array, "F 2*H 2*W C"]:
    """Bicubic enlargement (Keys 1981, a = -1/2) by two on both sides, edges repeated; by slices, which a CPU does faster than a resize."""
    for axis in (1, 2):
        size = picture.shape[axis]
        padded = jnp.pad(picture, [(2, 2) if i == axis else (0, 0) for i in range(4)], mode="edge")
        taps = [jax.lax.slice_in_dim(padded, shift, shift + size, axis=axis) for shift in range(5)]
        # New pixels lie a quarter of an old one before and after its center.
        before = sum(weight * tap for weight, tap in zip(reversed(QUARTER), taps[:4], strict=True))
        after = sum(weight * tap for weight, tap in zip(QUARTER, taps[1:], strict=True))
        shape = list(picture.shape)
        shape[axis] *= 2
        picture = jnp.stack([jnp.asarray(before), jnp.asarray(after)], axis=axis + 1).reshape(shape)
    return picture


def _has_detail(picture: Float[jax.Array, "F H W 4"]) -> Bool[jax.Array, "F H W"]:
    """Pixels that differ from a neighbor by more than `DETAIL` in color or `OUTLINE` in opacity, and their neighbors."""
    thresholds = jnp.array([DETAIL] * 3 + [OUTLINE])
    edges = jnp.zeros(picture.shape[:3], bool)
    for axis in (1, 2):
        step = jnp.any(jnp.abs(jnp.diff(picture, axis=axis)) > thresholds, axis=-1)
        edges |= _padded(step, axis, 0, 1) | _padded(step, axis, 1, 0)
    for axis in (1, 2):
        inner = jax.lax.slice_in_dim(edges, 0, edges.shape[axis] - 1, axis=axis)
        outer = jax.lax.slice_in_dim(edges, 1, edges.shape[axis], axis=axis)
        edges = edges | _padded(inner, axis, 1, 0) | _padded(outer, axis, 0, 1)
    return edges


def _padded(mask: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    return jnp.pad(mask, [(before, after) if i == axis else (0, 0) for i in range(mask.ndim)])


def _in_boxes(boxes: Integer[Array, "F K 4"], half: tuple[int, int]) -> Bool[jax.Array, "F H W"]:
    """Pixels of the half-size picture inside boxes of the full one."""
    rows, columns = 2 * np.arange(half[0])[:, None], 2 * np.arange(half[1])[None]
    x0, y0, x1, y1 = (jnp.asarray(boxes)[:, :, i, None, None] for i in range(4))
    return jnp.any((columns >= x0 - 1) & (columns < x1) & (rows >= y0 - 1) & (rows < y1), axis=1)


def boxes_of(points: Float[np.ndarray, "T P 2"], margin: float) -> Integer[np.ndarray, "T 4"]:
    """Boxes x0, y0, x1, y1 around points in pixels, larger by `margin` times their longer side on every side."""
    low, high = points.min(axis=1), points.max(axis=1)
    room = margin * (high - low).max(axis=1, keepdims=True)
    return np.concatenate([np.floor(low - room), np.ceil(high + room)], axis=1).astype(np.int32)
