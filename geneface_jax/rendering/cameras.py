"""Cameras and pixel rays: RAD-NeRF's scene coordinates, and the pinhole camera of the vanilla NeRF."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# ----------------------------------------------------------------------------------------------------
# Cameras and pixel rays in the scene of the radiance field.
#
# Scene axes (RAD-NeRF's `nerf_matrix_to_ngp`): x = up, y = towards the camera, z = to the right; four scene units are one metre of the
# dataset, so that a head is about one unit high.

SCALE = 4.0
"""Scene units per metre (`camera_scale`)."""


def scene_pose(cameras: jax.Array, scale: float = SCALE) -> jax.Array:
    """[..., 4, 4] camera-to-world (OpenGL axes, metres) -> [..., 4, 4] camera-to-scene with the camera looking along +z, y down."""
    cameras = jnp.asarray(cameras, jnp.float32)
    rows = cameras[..., jnp.array([1, 2, 0]), :]
    signs = jnp.array([1.0, -1.0, -1.0, scale], jnp.float32)
    top = rows * signs
    bottom = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0], jnp.float32), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


def to_scene(points: np.ndarray) -> np.ndarray:
    """[..., 3] points of the canonical head frame in decimetres -> scene units, scene axes."""
    return np.asarray(points)[..., [1, 2, 0]] * (SCALE / 10.0)


def pixel_rays(pose: jax.Array, intrinsics: jax.Array, rows: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rays through pixel centres.

    Args:
      pose: [..., 4, 4] from `scene_pose`.
      intrinsics: [4] fx, fy, cx, cy in pixels.
      rows, columns: [..., R] pixel indices.

    Returns:
      (origins, unit directions), both [..., R, 3] in scene units.
    """
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    x = (columns + 0.5 - cx) / fx
    y = (rows + 0.5 - cy) / fy
    local = jnp.stack([x, y, jnp.ones_like(x)], axis=-1)
    local = local / jnp.linalg.norm(local, axis=-1, keepdims=True)
    directions = jnp.einsum("...rk,...jk->...rj", local, pose[..., :3, :3])
    origins = jnp.broadcast_to(pose[..., None, :3, 3], directions.shape)
    return origins, directions


def pose_vector(pose: jax.Array) -> jax.Array:
    """[..., 6]: Euler angles (R = Rx Ry Rz) and translation of a scene pose, the torso's condition."""
    r = pose[..., :3, :3]
    angles = [
        jnp.arctan2(-r[..., 1, 2], r[..., 2, 2]),
        jnp.arcsin(jnp.clip(r[..., 0, 2], -1.0, 1.0)),
        jnp.arctan2(-r[..., 0, 1], r[..., 0, 0]),
    ]
    return jnp.concatenate([jnp.stack(angles, axis=-1), pose[..., :3, 3]], axis=-1)


def image_coords(height: int, width: int) -> np.ndarray:
    """[H * W, 2] float32 (row, column) in [-1, 1], corners aligned; row-major like the pixels."""
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([rows, columns], axis=-1).reshape(-1, 2).astype(np.float32)


def project(points: np.ndarray, cameras: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixels [T, P, 2] of world points [P, 3] or [T, P, 3] (metres) in OpenGL cameras [T, 4, 4]."""
    points = np.broadcast_to(points, (len(cameras), *np.shape(points)[-2:]))
    local = np.einsum("tpk,tkj->tpj", points - cameras[:, None, :3, 3], cameras[:, :3, :3])
    depth = -local[..., 2]
    fx, fy, cx, cy = intrinsics
    return np.stack([cx + fx * local[..., 0] / depth, cy - fy * local[..., 1] / depth], axis=-1)


# ----------------------------------------------------------------------------------------------------
# Cameras of the vanilla NeRF: it lives in the dataset's own world (OpenGL axes, metres) and counts along the optical axis.


def camera_rays(
    camera: jax.Array, intrinsics: jax.Array, rows: jax.Array, columns: jax.Array, offset: float
) -> tuple[jax.Array, jax.Array]:
    """Rays whose parameter is the depth along the optical axis: directions are not normalised (AD-NeRF's `get_rays`).

    Args:
      camera: [4, 4] or [3, 4] camera to world, x right, y up, looking along -z.
      intrinsics: [4] fx, fy, cx, cy in pixels.
      rows, columns: [...] pixel indices.
      offset: where in a pixel its ray goes: 0.5 through the centre, 0 through the corner (the original).

    Returns:
      (origins, directions), [..., 3] each, in metres.
    """
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    x = (columns + offset - cx) / fx
    y = -(rows + offset - cy) / fy
    local = jnp.stack([x, y, -jnp.ones_like(x)], axis=-1)
    directions = jnp.einsum("...k,jk->...j", local, camera[:3, :3])
    return jnp.broadcast_to(camera[:3, 3], directions.shape), directions


def camera_angles(cameras: jax.Array) -> jax.Array:
    """[..., 3] Euler angles in radians of [..., 4, 4] cameras: R = Rz(c) Ry(b) Rx(a), scipy's extrinsic "xyz"."""
    r = cameras[..., :3, :3]
    return jnp.stack(
        [
            jnp.arctan2(r[..., 2, 1], r[..., 2, 2]),
            jnp.arcsin(jnp.clip(-r[..., 2, 0], -1.0, 1.0)),
            jnp.arctan2(r[..., 1, 0], r[..., 0, 0]),
        ],
        axis=-1,
    )
