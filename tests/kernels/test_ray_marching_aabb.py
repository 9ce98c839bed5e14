"""Rays against a box and a sphere: the ends lie on the surface, misses and degenerate rays, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.ray_marching.geometry import FAR_AWAY, near_far_from_aabb

from tests.parity.kernels.recorded import assert_equals_recorded
from tests.parity.kernels.sphere import sphere_coordinates

AABB = np.array([-1.0, -0.5, -1.0, 1.0, 0.5, 1.0])


def rays(n=500, seed=0):
    rng = np.random.default_rng(seed)
    o = rng.normal(size=(n, 3))
    o *= 3.0 / np.linalg.norm(o, axis=1, keepdims=True)
    d = rng.uniform(-1.5, 1.5, (n, 3)) - o
    return o, d / np.linalg.norm(d, axis=1, keepdims=True)


def box(o, d, min_near=0.05, aabb=AABB):
    arrays = (jnp.asarray(np.atleast_2d(array), jnp.float32) for array in (o, d))
    return tuple(np.asarray(end) for end in near_far_from_aabb(*arrays, jnp.asarray(aabb, jnp.float32), min_near))


def outside(points):
    """How far points lie outside the box; 0 on its surface, negative inside."""
    return (np.abs(points) - AABB[3:]).max(axis=-1)


def test_both_ends_lie_on_the_box_and_a_missed_ray_never_enters_it():
    o, d = rays()
    near, far = box(o, d)
    missed = near == FAR_AWAY
    assert 50 < missed.sum() < 450
    np.testing.assert_array_equal(far[missed], FAR_AWAY)
    for end in (near, far):
        np.testing.assert_allclose(outside(o + end[:, None] * d)[~missed], 0.0, atol=2e-6)
    assert (near[~missed] < far[~missed]).all()
    t = np.linspace(0, 6, 600)[:, None]
    for i in np.flatnonzero(missed):
        assert outside(o[i] + t * d[i]).min() > -1e-6


def test_the_ends_scale_with_the_length_of_the_direction():
    o, d = rays()
    near, far = box(o, d, min_near=0.0)
    half_near, half_far = box(o, 2.0 * d, min_near=0.0)
    hit = near < FAR_AWAY
    np.testing.assert_allclose([2.0 * half_near[hit], 2.0 * half_far[hit]], [near[hit], far[hit]], rtol=1e-6)


def test_from_inside_nears_are_clamped():
    near, far = box([0.1, 0.0, 0.0], [1.0, 0.0, 0.0], min_near=0.2)
    np.testing.assert_allclose([near[0], far[0]], [0.2, 0.9], rtol=1e-6)


def test_a_box_behind_the_camera_is_no_miss_but_has_far_before_near():
    near, far = box([0.0, 0.0, 3.0], [0.0, 0.0, 1.0])
    np.testing.assert_allclose([near[0], far[0]], [0.05, -2.0], rtol=1e-6)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_axis_parallel_rays(zero):
    near, far = box([[0.0, 3.0, 0.0], [1.1, 3.0, 0.0]], [[zero, -1.0, zero]] * 2)
    np.testing.assert_allclose([near[0], far[0]], [2.5, 3.5], rtol=1e-6)
    assert near[1] == far[1] == FAR_AWAY


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_ray_in_the_plane_of_a_face_is_a_miss_and_not_nan(side, zero):
    near, far = box([side, 3.0, 0.2], [zero, -1.0, 0.0])
    assert near[0] == far[0] == FAR_AWAY


def test_no_gradient_flows_back():
    o, d = (jnp.asarray(array, jnp.float32) for array in rays(10))
    gradient = jax.grad(lambda o, d: jnp.sum(near_far_from_aabb(o, d, jnp.asarray(AABB), 0.05)[0]), argnums=(0, 1))(o, d)
    np.testing.assert_array_equal(gradient, 0.0)


def test_sphere_coordinates_lie_on_the_ray_and_on_the_sphere():
    o, d = rays()
    o, d, radius = o * 0.4, d * 1.7, 1.5
    found = np.asarray(sphere_coordinates(jnp.asarray(o, jnp.float32), jnp.asarray(d, jnp.float32), radius), np.float64)
    assert np.abs(found).max() <= 1.0
    theta, phi = (found[:, 0] + 1) * np.pi / 2, found[:, 1] * np.pi
    point = radius * np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], axis=1)
    np.testing.assert_allclose(np.cross(point - o, d), 0.0, atol=2e-5)
    assert (np.sum((point - o) * d, axis=1) > 0).all(), "the sphere is left in the direction of the ray"


def test_sphere_coordinates_of_the_axes():
    axes = jnp.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    found = np.asarray(sphere_coordinates(jnp.zeros((5, 3)), axes, 2.0))
    np.testing.assert_allclose(found[:, 0], [-1.0, 1.0, 0.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(found[2:, 1], [0.0, 0.5, -0.5], atol=1e-6)


def test_a_ray_that_misses_the_sphere_is_nan():
    assert jnp.isnan(sphere_coordinates(jnp.array([[0.0, 3.0, 0.0]]), jnp.array([[1.0, 0.0, 0.0]]), 1.0)).all()


@pytest.mark.parametrize(("o_shape", "d_shape"), [((4, 3), (5, 3)), ((4, 2), (4, 2)), ((3,), (3,))])
@pytest.mark.usefixtures("unchecked_annotations")
def test_wrong_rays_are_named(o_shape, d_shape):
    with pytest.raises(ValueError, match=r"rays_o and rays_d must both be \[N, 3\]"):
        near_far_from_aabb(jnp.zeros(o_shape), jnp.zeros(d_shape), jnp.zeros(6), 0.05)
    with pytest.raises(ValueError, match=r"rays_o and rays_d must both be \[N, 3\]"):
        sphere_coordinates(jnp.zeros(o_shape), jnp.zeros(d_shape), 1.0)


@pytest.mark.usefixtures("unchecked_annotations")
def test_a_wrong_box_is_named():
    with pytest.raises(ValueError, match=r"aabb must be \[6\]"):
        near_far_from_aabb(jnp.zeros((4, 3)), jnp.ones((4, 3)), jnp.zeros((2, 3)), 0.05)


def test_equals_the_original_kernel(shared):
    assert_equals_recorded(shared, "ray_box")
