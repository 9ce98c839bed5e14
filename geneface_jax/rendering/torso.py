"""Conditions of the torso's deformation, and rendering the torso over a background."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from geneface_jax.models.torso import CONDITIONS, Torso
from geneface_jax.rendering.cameras import image_coords, pose_vector, project, scene_pose
from geneface_jax.typing import Array, Float, Num

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
