"""A frame of the head: camera and condition in, colour and alpha out."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import pixel_rays
from geneface_jax.rendering.frame import FrameRender, render_rays
from geneface_jax.rendering.settings import MarchSettings


@functools.partial(jax.jit, static_argnames=("model", "settings", "size"))
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
    """Renders one frame of the head with appearance code 0.

    Args:
      model, params: the head network.
      occupied: [X, X, X] bool.
      pose: [4, 4] scene pose of the camera.
      intrinsics: [4] fx, fy, cx, cy in pixels of `size`.
      window: [W, 204] normalised motion around the frame.
      eye_openness: [] eye openness of the frame.
      end_threshold: transmittance that ends a ray.
      settings, size: static; size = (height, width).
    """
    height, width = size
    variables = {"params": params}
    condition = model.apply(variables, window[None], jnp.reshape(eye_openness, (1,)), method=Head.condition)
    code = model.apply(variables, jnp.zeros(1, jnp.int32), method=Head.code)
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    rays_o, rays_d = pixel_rays(pose, intrinsics, rows.reshape(-1), columns.reshape(-1))
    return render_rays(lambda x, d: model.apply(variables, x, d, condition, code), rays_o, rays_d, occupied, settings, end_threshold)
