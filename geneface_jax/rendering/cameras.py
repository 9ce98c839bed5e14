"""Cameras and pixel rays: RAD-NeRF's scene coordinates, and the pinhole camera of the vanilla NeRF.

Products of geometry, here and wherever rays, poses and coordinates are made, ask for `EXACT`: by default an NVIDIA GPU rounds the factors
of a float32 product to 10 bits (TF32), which shifts whole frames by up to half a pixel. Networks keep the default.
"""

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.typing import Array, Float, Num

EXACT = jax.lax.Precision.HIGHEST
"""Precision of a product of geometry: full float32 on every backend."""

# -------- Scene coordinates of the radiance field
#
# Scene axes (RAD-NeRF's `nerf_matrix_to_ngp`): x = up, y = towards the camera, z = to the right. A head is about one unit high.

SCALE = 4.0
"""Scene units per meter (`camera_scale`)."""


def scene_pose(cameras: Float[Array, "*batch 4 4"], scale: float = SCALE) -> Float[jax.Array, "*batch 4 4"]:
    """Camera-to-world (OpenGL axes, meters) -> camera-to-scene, with the camera looking along +z and y down."""
    cameras = jnp.asarray(cameras, jnp.float32)
    rows = cameras[..., jnp.array([1, 2, 0]), :]
    signs = jnp.array([1.0, -1.0, -1.0, scale], jnp.float32)
    top = rows * signs
    bottom = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0], jnp.float32), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


def to_scene(points: Float[Array, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Points of the canonical head frame in decimeters -> scene units, scene axes."""
    return np.asarray(points)[..., [1, 2, 0]] * (SCALE / 10.0)


def pixel_rays(
    pose: Float[Array, "*batch 4 4"], intrinsics: Float[Array, " 4"], rows: Num[Array, "*#batch R"], columns: Num[Array, "*#batch R"]
) -> tuple[Float[jax.Array, "*batch R 3"], Float[jax.Array, "*batch R 3"]]:
    """Origins and unit directions, in scene units, of rays through pixel centers.

    Args:
      pose: from `scene_pose`.
      intrinsics: fx, fy, cx, cy in pixels.
      rows, columns: pixel indices.
    """
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    x = (columns + 0.5 - cx) / fx
    y = (rows + 0.5 - cy) / fy
    local = jnp.stack([x, y, jnp.ones_like(x)], axis=-1)
    local = local / jnp.linalg.norm(local, axis=-1, keepdims=True)
    directions = jnp.einsum("...rk,...jk->...rj", local, pose[..., :3, :3], precision=EXACT)
    origins = jnp.broadcast_to(pose[..., None, :3, 3], directions.shape)
    return origins, directions


def pose_vector(pose: Float[Array, "*batch 4 4"]) -> Float[jax.Array, "*batch 6"]:
    """Euler angles (R = Rx Ry Rz) and translation of a scene pose, the torso's condition."""
    r = pose[..., :3, :3]
    angles = [
        jnp.arctan2(-r[..., 1, 2], r[..., 2, 2]),
        jnp.arcsin(jnp.clip(r[..., 0, 2], -1.0, 1.0)),
        jnp.arctan2(-r[..., 0, 1], r[..., 0, 0]),
    ]
    return jnp.concatenate([jnp.stack(angles, axis=-1), pose[..., :3, 3]], axis=-1)


def image_coords(height: int, width: int) -> Float[np.ndarray, "N 2"]:
    """(row, column) of all pixels in row-major order, float32 in [-1, 1] with aligned corners."""
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([rows, columns], axis=-1).reshape(-1, 2).astype(np.float32)


def project(
    points: Float[np.ndarray, "... P 3"], cameras: Float[np.ndarray, "T 4 4"], intrinsics: Num[np.ndarray, " 4"]
) -> Float[np.ndarray, "T P 2"]:
    """Pixels (x, y) of world points (meters, [P, 3] or [T, P, 3]) in OpenGL cameras."""
    points = np.broadcast_to(points, (len(cameras), *np.shape(points)[-2:]))
    local = np.einsum("tpk,tkj->tpj", points - cameras[:, None, :3, 3], cameras[:, :3, :3])
    depth = -local[..., 2]
    fx, fy, cx, cy = intrinsics
    return np.stack([cx + fx * local[..., 0] / depth, cy - fy * local[..., 1] / depth], axis=-1)


# -------- Pinhole camera of the vanilla NeRF, in the dataset's world coordinates (OpenGL axes, meters)


def camera_rays(
    camera: Float[Array, "_ 4"],
    intrinsics: Float[Array, " 4"],
    rows: Num[Array, "*batch"],
    columns: Num[Array, "*batch"],
    offset: float,
) -> tuple[Float[jax.Array, "*batch 3"], Float[jax.Array, "*batch 3"]]:
    """Origins and directions in meters of rays whose parameter is the depth: directions are not normalized (AD-NeRF's `get_rays`).

    Args:
      camera: camera to world, [4, 4] or [3, 4]: x right, y up, looking along -z.
      intrinsics: fx, fy, cx, cy in pixels.
      rows, columns: pixel indices.
      offset: position of the ray in its pixel: 0.5 is the center, 0 the corner (the original).
    """
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    x = (columns + offset - cx) / fx
    y = -(rows + offset - cy) / fy
    local = jnp.stack([x, y, -jnp.ones_like(x)], axis=-1)
    directions = jnp.einsum("...k,jk->...j", local, camera[:3, :3], precision=EXACT)
    return jnp.broadcast_to(camera[:3, 3], directions.shape), directions


def camera_angles(cameras: Float[Array, "*batch 4 4"]) -> Float[jax.Array, "*batch 3"]:
    """Euler angles in radians: R = Rz(c) Ry(b) Rx(a), scipy's extrinsic "xyz"."""
    r = cameras[..., :3, :3]
    return jnp.stack(
        [
            jnp.arctan2(r[..., 2, 1], r[..., 2, 2]),
            jnp.arcsin(jnp.clip(-r[..., 2, 0], -1.0, 1.0)),
            jnp.arctan2(r[..., 1, 0], r[..., 0, 0]),
        ],
        axis=-1,
    )
