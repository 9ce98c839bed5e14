"""What bends the torso in every frame, and a frame of it painted over the background."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from geneface_jax.models.torso import CONDITIONS, Torso
from geneface_jax.rendering.cameras import image_coords, pose_vector, project, scene_pose

JAW = slice(5, 12)
"""The seven points of the jaw (of 68) that GeneFace++'s torso hears of: chin and the jaw line beside it."""

JAW_WINDOW = 7
"""Frames that are averaged, so that shoulders don't tremble with the tracking of the chin; GeneFace++ does it at inference alone."""


def torso_conditions(
    kind: str, cameras: np.ndarray, motion: np.ndarray, mean_face: np.ndarray, intrinsics: np.ndarray, size: int
) -> np.ndarray:
    """What bends the torso in each frame; one meaning for training, evaluation and inference.

    Args:
      kind: "pose" (Euler angles and translation of the head's camera in the scene) or "jaw" (see `jaw_points`).
      cameras: [T, 4, 4] camera to world (dataset convention).
      motion: [T, 68, 3] or [T, 204], not normalised.
      mean_face: [68, 3] decimetres.
      intrinsics: [4] fx, fy, cx, cy in pixels of a picture of `size` pixels per side.

    Returns:
      [T, 6] or [T, 14] float32.
    """
    if kind == "pose":
        return np.asarray(pose_vector(scene_pose(cameras)), np.float32)
    if kind == "jaw":
        return jaw_points(cameras, motion, mean_face, intrinsics, size)
    raise ValueError(f"a torso's condition is one of {', '.join(CONDITIONS)}, not {kind!r}")


def jaw_points(cameras: np.ndarray, motion: np.ndarray, mean_face: np.ndarray, intrinsics: np.ndarray, size: int) -> np.ndarray:
    """Image coordinates of the jaw: the landmarks seen by the frame's camera, smoothed over `JAW_WINDOW` frames (mirrored ends).

    Arguments as for `torso_conditions`. Returns [T, 14] float32, x and y of each point in fractions of the picture (y down).
    """
    meters = (np.asarray(motion, np.float64).reshape(len(motion), -1, 3) / 10.0 + mean_face)[:, JAW] / 10.0
    pixels = project(meters, np.asarray(cameras, np.float64), np.asarray(intrinsics, np.float64))
    smooth = ndimage.uniform_filter1d(pixels / size, JAW_WINDOW, axis=0, mode="mirror" if len(pixels) > 1 else "nearest")
    return smooth.reshape(len(pixels), -1).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("model", "size"))
def render_torso(
    model: Torso, params: Any, condition: jax.Array, background: jax.Array, *, size: tuple[int, int], head: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Paints the torso over a background with code 0.

    Args:
      model, params: the torso network.
      condition: [6] or [14] of `torso_conditions`.
      background: [H * W, 3] in [0, 1].
      size: (height, width), static.
      head: [H * W, 4] the head in front, colour times opacity and opacity, for a head-aware torso; None where there is none.

    Returns:
      ([H * W, 3] torso over background, [H * W] alpha).
    """
    variables = {"params": params}
    code = model.apply(variables, jnp.zeros(1, jnp.int32), method=Torso.code)
    sample = model.apply(variables, jnp.asarray(image_coords(*size)), condition[None], code, None, head)
    alpha = sample.alpha[:, None]
    return sample.rgb * alpha + background * (1.0 - alpha), sample.alpha
