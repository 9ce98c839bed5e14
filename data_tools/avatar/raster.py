"""A small triangle renderer: painter's order for what is seen, then texture and light per sub-pixel, then averaging.

Triangles are drawn by OpenCV into a picture of triangle numbers, far ones first, at `SAMPLES` x `SAMPLES` sub-pixels. Every covered
sub-pixel then takes texture coordinates and light from its triangle's three corners, linearly in the picture (the lens is long, so
perspective inside a triangle does not matter). NumPy and OpenCV alone: no z-buffer loop in Python.
"""

from __future__ import annotations

import cv2
import numpy as np

SAMPLES = 2
_SHIFT = 4
"""Fractional bits of OpenCV's polygon corners."""

_SLIVER = 0.05
"""Sub-pixels squared; triangles below it cover nothing."""


def triangle_buffer(points: np.ndarray, triangles: np.ndarray, order: np.ndarray, size: int) -> np.ndarray:
    """[size * SAMPLES] squared int32: index of the triangle seen in each sub-pixel, -1 for none.

    Args:
      points: [V, 2] pixels in a picture of `size`.
      triangles: [M, 3].
      order: triangle indices in drawing order, far to near, without those that face away.
      size: pixels of the picture's side.
    """
    buffer = np.full((size * SAMPLES, size * SAMPLES), -1, np.int32)
    # OpenCV's integer coordinates are pixel centres, ours are pixel edges.
    corners = np.round((points * SAMPLES - 0.5) * (1 << _SHIFT)).astype(np.int32)[triangles[order]]
    draw = cv2.fillConvexPoly
    for index, corner in zip(order.tolist(), corners, strict=True):
        draw(buffer, corner, index, cv2.LINE_8, _SHIFT)
    return buffer


def visible_order(points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Indices of the triangles that face the camera, by layer, then from far to near.

    Args:
      points: [V, 2] pixels, y down.
      depth: [V] distance from the camera.
      triangles: [M, 3], counter-clockwise from outside.
      layer: [M] integers; a higher layer hides a lower one whatever the depth.
    """
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    facing = np.flatnonzero(area < -_SLIVER)
    mean_depth = depth[triangles[facing]].mean(axis=1)
    return facing[np.lexsort((-mean_depth, layer[facing]))]


def interpolate(buffer: np.ndarray, points: np.ndarray, triangles: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Attributes at the covered sub-pixels.

    Args:
      buffer: from `triangle_buffer`.
      points: [V, 2] pixels.
      triangles: [M, 3].
      corners: [M, 3, C] attributes at the triangles' corners.

    Returns:
      [N] flat indices of the covered sub-pixels, and [C, N] float32 attributes, kept within the range of the triangle's corners.
    """
    covered = np.flatnonzero(buffer.ravel() >= 0)
    seen = np.take(buffer.ravel(), covered)
    plane = _planes(points[triangles] * SAMPLES, corners)
    row, column = np.divmod(covered.astype(np.int32), np.int32(buffer.shape[1]))
    x, y = column.astype(np.float32) + np.float32(0.5), row.astype(np.float32) + np.float32(0.5)
    values = np.empty((corners.shape[2], len(covered)), np.float32)
    for channel in range(corners.shape[2]):
        slope_x, slope_y, offset = (np.take(plane[channel, i], seen) for i in range(3))
        slope_x *= x
        slope_y *= y
        offset += slope_x
        offset += slope_y
        values[channel] = offset
    return covered, values


def _planes(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[C, 3, M] float32 coefficients (x, y, 1) of each attribute over each triangle: points [M, 3, 2], corners [M, 3, C]."""
    edge1, edge2 = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    area = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    # A sliver seen edge-on has a steep plane that its drawn border would leave; flatten it to its mean.
    steep = np.abs(area) < 2.0
    area = np.where(steep, 1.0, area)
    delta1, delta2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    slope_x = (delta1 * edge2[:, 1:2] - delta2 * edge1[:, 1:2]) / area[:, None]
    slope_y = (delta2 * edge1[:, 0:1] - delta1 * edge2[:, 0:1]) / area[:, None]
    slope_x[steep], slope_y[steep] = 0.0, 0.0
    centre = points.mean(axis=1)
    offset = corners.mean(axis=1) - slope_x * centre[:, :1] - slope_y * centre[:, 1:]
    return np.ascontiguousarray(np.stack([slope_x, slope_y, offset]).transpose(2, 0, 1), np.float32)
