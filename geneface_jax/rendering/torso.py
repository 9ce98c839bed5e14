"""A frame of the torso, painted over the background."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import image_coords, pose_vector


@functools.partial(jax.jit, static_argnames=("model", "size"))
def render_torso(
    model: Torso, params: Any, pose: jax.Array, background: jax.Array, *, size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Paints the torso over a background with code 0.

    Args:
      model, params: the torso network.
      pose: [4, 4] scene pose of the head's camera.
      background: [H * W, 3] in [0, 1].
      size: (height, width), static.

    Returns:
      ([H * W, 3] torso over background, [H * W] alpha).
    """
    variables = {"params": params}
    code = model.apply(variables, jnp.zeros(1, jnp.int32), method=Torso.code)
    sample = model.apply(variables, jnp.asarray(image_coords(*size)), pose_vector(pose)[None], code)
    alpha = sample.alpha[:, None]
    return sample.rgb * alpha + background * (1.0 - alpha), sample.alpha
