"""Carving the occupancy grid: cells that no training camera sees inside the head's outline can never hold head.

The original marks cells outside every camera's view (`mark_untrained_grid`); the head masks that the dataset carries anyway say much
more, and on a CPU every cell less is time.
"""

from __future__ import annotations

import numpy as np
from scipy import interpolate, ndimage


def carve(masks: np.ndarray, poses: np.ndarray, intrinsics: np.ndarray, resolution: int, bound: float, margin: float = 0.03) -> np.ndarray:
    """Which cells lie inside the (dilated) head mask of at least one frame.

    Args:
      masks: [F, H, W] uint8 head masks of a few training frames.
      poses: [F, 4, 4] scene poses of the same frames.
      intrinsics: [4] fx, fy, cx, cy.
      resolution: cells per side.
      bound: scene half extent.
      margin: dilation in fractions of the picture's height.

    Returns:
      [R, R, R] bool.
    """
    axis = (np.arange(resolution) + 0.5) * (2.0 * bound / resolution) - bound
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = np.zeros(len(centres), bool)
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    for mask, pose in zip(masks, np.asarray(poses, np.float64), strict=True):
        height, width = mask.shape
        if not (mask >= 128).any():
            continue
        # Half a cell's diagonal on screen joins the margin, so that thin parts survive a coarse grid.
        distance = np.linalg.norm(pose[:3, 3])
        reach = margin * height + fx * bound * np.sqrt(3) / resolution / distance
        near_mask = ndimage.distance_transform_edt(mask < 128) <= reach
        local = (centres - pose[:3, 3]) @ pose[:3, :3]
        depth = np.maximum(local[:, 2], 1e-6)
        column = np.floor(cx + fx * local[:, 0] / depth).astype(int)
        row = np.floor(cy + fy * local[:, 1] / depth).astype(int)
        inside = (local[:, 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        seen[inside] |= near_mask[row[inside], column[inside]]
    return seen.reshape(resolution, resolution, resolution)


def in_front_of_face(landmarks: np.ndarray, resolution: int, bound: float, margin: float) -> np.ndarray:
    """Which cells float in front of the face, where a head can't be.

    Masks of a person who hardly turns leave a long tunnel towards the camera; the landmarks know where the surface is. Without this
    the first samples of every ray are spent on the tunnel until its density has faded.

    Args:
      landmarks: [68, 3] the person's mean landmarks in scene units, scene axes (x up, y towards the camera, z right).
      resolution, bound: of the grid.
      margin: scene units in front of the surface that stay.

    Returns:
      [R, R, R] bool.
    """
    axis = (np.arange(resolution) + 0.5) * (2.0 * bound / resolution) - bound
    plane = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    surface = interpolate.griddata(landmarks[:, [0, 2]], landmarks[:, 1], plane, method="linear")
    nearest = interpolate.griddata(landmarks[:, [0, 2]], landmarks[:, 1], plane, method="nearest")
    surface = np.where(np.isnan(surface), nearest, surface)
    return axis[None, :, None] > surface[:, None, :] + margin
