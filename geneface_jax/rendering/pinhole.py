"""Cameras of the vanilla NeRF: it lives in the dataset's own world (OpenGL axes, metres) and counts along the optical axis."""

from __future__ import annotations

import jax
import jax.numpy as jnp


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
