"""What each cell adds to a picture: only cells with weight are marked, and rays let through what a rendering lets through."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.rendering.contributions import add_seen_cells, turned
from geneface_jax.rendering.field import render_heads
from tests.tiny_head import MARCH, tiny_head

SIZE, RESOLUTION = 40, 32
INTRINSICS = jnp.asarray([131.0, 131.0, SIZE / 2, SIZE / 2], jnp.float32)
CENTERS = (0.5, 0.5, 0.0)
"""Rays through the centers of their pixels, on the lattice of a rendering."""


def seen(threshold, *, shift=CENTERS, cap=MARCH.max_samples, before=None):
    head = tiny_head()
    marks = jnp.zeros(RESOLUTION**3, bool) if before is None else jnp.asarray(before)
    settings = dataclasses.replace(MARCH, max_samples=cap)
    frame = head.poses[0], INTRINSICS, jnp.asarray(head.windows[0]), jnp.asarray(head.eyes[0]), jnp.asarray(shift, jnp.float32)
    found, rays = add_seen_cells(
        head.model, head.params, marks, jnp.asarray(head.occupied), *frame, threshold, settings=settings, size=SIZE, resolution=RESOLUTION
    )
    return np.asarray(found), rays


def alpha(occupied, cap=1000):
    head, settings = tiny_head(), dataclasses.replace(MARCH, max_samples=cap)
    frame = head.poses[:1], INTRINSICS, jnp.asarray(head.windows[:1]), jnp.asarray(head.eyes[:1]), 0.0
    return np.asarray(render_heads(head.model, head.params, jnp.asarray(occupied), *frame, settings=settings, size=(SIZE, SIZE)).alpha[0])


def occupied_cells():
    return tiny_head().occupied.repeat(2, 0).repeat(2, 1).repeat(2, 2).reshape(-1)


@pytest.mark.parametrize("cap", [3, 8])
def test_rays_let_through_what_a_rendering_does(cap):
    _, rays = seen(1e-3, cap=cap)
    through, at_cap = np.asarray(rays.transmittance), np.asarray(rays.at_cap)
    np.testing.assert_allclose(through, 1.0 - alpha(tiny_head().occupied), atol=2e-4)
    np.testing.assert_allclose(at_cap, 1.0 - alpha(tiny_head().occupied, cap), atol=2e-4)
    assert (at_cap > through + 0.01).any() and (through == 1.0).any()


def test_only_cells_with_weight_are_marked():
    occupied = occupied_cells()
    counts = []
    for threshold in (-1.0, 1e-3, 0.02, 2.0):
        found, _ = seen(threshold)
        assert not (found & ~occupied).any() or threshold < 0, "on the lattice of a rendering, samples lie in occupied cells"
        counts.append(int(found.sum()))
    assert counts[0] >= counts[1] > counts[2] > counts[3] == 0, counts


def test_what_is_marked_makes_the_picture():
    """What is left out is at most the threshold for each sample."""
    whole = alpha(tiny_head().occupied)
    for threshold in (1e-3, 0.01):
        found, _ = seen(threshold)
        lost = whole - alpha(found.reshape((RESOLUTION,) * 3))
        assert lost.min() > -1e-4 and lost.max() < 25 * threshold, (threshold, lost.max())
    assert whole.max() > 0.3


def test_marks_are_added():
    before = np.zeros(RESOLUTION**3, bool)
    before[[0, 5000]] = True
    alone, _ = seen(1e-3)
    both, _ = seen(1e-3, before=before)
    np.testing.assert_array_equal(both, alone | before)


@pytest.mark.parametrize("shift", [(0.1, 0.9, 0.6), (0.5, 0.5, 0.99)])
def test_other_places_of_a_pixel_and_of_a_step_reach_occupied_cells_alone(shift):
    """Other cells never had a density in training: whatever the network says there, it must not show."""
    found, _ = seen(1e-3, shift=shift)
    assert found.any() and not (found & ~occupied_cells()).any()


def test_a_turned_camera_sees_the_center_from_the_same_distance():
    pose = np.eye(4)
    pose[:3, 3] = 0.1, 3.0, -0.2
    moved = turned(pose, np.array([0.0, 0.0, 10.0]))
    assert np.linalg.norm(moved[:3, 3]) == pytest.approx(np.linalg.norm(pose[:3, 3]))
    angle = np.degrees(np.arccos((np.trace(moved[:3, :3] @ pose[:3, :3].T) - 1) / 2))
    assert angle == pytest.approx(10.0) and moved[2, 3] == pytest.approx(pose[2, 3])
    np.testing.assert_allclose(turned(pose, np.zeros(3)), pose)
