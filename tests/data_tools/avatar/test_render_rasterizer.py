"""The triangle renderer on triangles one can check by hand."""

from __future__ import annotations

import numpy as np

from data_tools.avatar.geometry import fan, grid, vertex_normals
from data_tools.avatar.render import SAMPLES, interpolate, triangle_buffer, visible_order

# Counter-clockwise seen from the camera, in pixels with y down.
POINTS = np.array([[2.0, 14.0], [14.0, 14.0], [2.0, 2.0], [14.0, 2.0]])
QUAD = np.array([[0, 1, 2], [1, 3, 2]])


def test_coverage_is_the_area():
    buffer = triangle_buffer(POINTS, QUAD, np.array([0, 1]), 16)
    covered = np.sum(buffer >= 0) / SAMPLES**2
    assert abs(covered - 144.0) / 144.0 < 0.1
    assert buffer[0, 0] == -1 and buffer[16, 16] >= 0


def test_only_triangles_that_face_the_camera_are_drawn():
    depth = np.zeros(4)
    both = np.concatenate([QUAD, QUAD[:, ::-1]])
    assert sorted(visible_order(POINTS, depth, both, np.zeros(4, int)).tolist()) == [0, 1]


def test_near_hides_far_and_layers_come_first():
    points = np.concatenate([POINTS, POINTS])
    triangles = np.concatenate([QUAD, QUAD + 4])
    depth = np.array([5.0] * 4 + [9.0] * 4)
    order = visible_order(points, depth, triangles, np.zeros(4, int))
    assert triangle_buffer(points, triangles, order, 16)[16, 10] in (0, 1)
    order = visible_order(points, depth, triangles, np.array([0, 0, 1, 1]))
    assert triangle_buffer(points, triangles, order, 16)[16, 10] in (2, 3)


def test_attributes_are_linear_across_a_triangle():
    buffer = triangle_buffer(POINTS, QUAD, np.array([0, 1]), 16)
    corners = np.stack([POINTS[QUAD][..., 0] * 3.0 + 1.0, POINTS[QUAD][..., 1] * -2.0], axis=-1)
    covered, values = interpolate(buffer, POINTS, QUAD, corners)
    x = (covered % buffer.shape[1] + 0.5) / SAMPLES
    y = (covered // buffer.shape[1] + 0.5) / SAMPLES
    np.testing.assert_allclose(values, [3.0 * x + 1.0, -2.0 * y], atol=1e-3)


def test_an_empty_picture():
    order = visible_order(POINTS, np.zeros(4), QUAD[:, ::-1], np.zeros(2, int))
    buffer = triangle_buffer(POINTS, QUAD, order, 16)
    covered, values = interpolate(buffer, POINTS, QUAD, np.zeros((2, 3, 2)))
    assert np.all(buffer == -1) and covered.size == 0 and values.shape == (2, 0)


def test_grid_and_fan():
    mesh = grid(3, 4, closed=True)
    assert mesh.triangles.shape == (2 * 2 * 4, 3) and set(mesh.triangles.ravel()) == set(range(12))
    assert mesh.corner_uv.min() == 0.0 and mesh.corner_uv.max() == 1.0
    np.testing.assert_array_equal(grid(3, 4, False, flip=True).triangles, grid(3, 4, False).triangles[:, ::-1])
    ring = np.array([7, 3, 9, 4, 1])
    assert fan(ring).shape == (3, 3) and set(fan(ring).ravel()) == set(ring.tolist())


def test_normals_of_a_sphere_point_outwards():
    polar, around = np.linspace(0.01, np.pi - 0.01, 12)[:, None], np.linspace(0, 2 * np.pi, 24, endpoint=False)[None]
    sphere = np.stack(np.broadcast_arrays(np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)), -1).reshape(-1, 3)
    mesh = grid(12, 24, closed=True, flip=True)
    normals, _ = vertex_normals(sphere, mesh.triangles)
    assert np.abs(np.sum(normals * sphere, axis=1)).min() > 0.95
