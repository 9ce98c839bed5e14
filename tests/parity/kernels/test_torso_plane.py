"""The torso's 2D occupancy grid: cells, widening, bilinear lookup."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from tests.parity.kernels.torso_plane import plane_cell_points, plane_lookup, plane_occupied, plane_update

lookup = jax.jit(plane_lookup)
occupied = jax.jit(plane_occupied)


def random_plane(side=7, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((side, side)), jnp.float32)


def test_points_stay_in_their_cells():
    side = 6
    noise = np.random.default_rng(0).random((side, side, 2)).astype(np.float32)
    points = np.asarray(plane_cell_points(jnp.asarray(noise)), np.float64)
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1)
    np.testing.assert_allclose((points + 1.0) * side / 2.0 - cells, noise, atol=2e-6)


def test_one_opaque_cell_opens_five_by_five():
    grid = plane_update(jnp.zeros((12, 12)), jnp.zeros((12, 12)).at[6, 3].set(1.0).at[0, 11].set(0.5))
    expected = np.zeros((12, 12))
    expected[4:9, 1:6], expected[0:3, 9:12] = 1.0, 0.5
    np.testing.assert_array_equal(grid, expected)


def test_update_decays_and_the_border_never_wins():
    grid = plane_update(jnp.full((6, 6), 0.5), jnp.full((6, 6), -3.0), decay=0.5)
    np.testing.assert_array_equal(grid, 0.25)
    np.testing.assert_array_equal(plane_update(jnp.full((6, 6), -9.0), jnp.full((6, 6), -3.0), decay=1.0), -3.0)


def test_lookup_is_bilinear_with_aligned_corners_and_zero_outside():
    grid = random_plane()
    points = np.random.default_rng(1).uniform(-1.4, 1.4, (500, 2)).astype(np.float32)
    expected = scipy.ndimage.map_coordinates(
        np.asarray(grid, np.float64), ((points.astype(np.float64) + 1.0) / 2.0 * 6).T, order=1, mode="grid-constant"
    )
    assert (expected == 0).any() and (np.abs(points).max(axis=1) > 1).sum() > 50
    np.testing.assert_allclose(lookup(grid, jnp.asarray(points)), expected, atol=2e-6)


def test_lookup_at_the_corners_and_at_no_place():
    grid = random_plane()
    points = jnp.array([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [jnp.nan, 0.0], [jnp.inf, 0.0], [0.0, -jnp.inf]])
    np.testing.assert_allclose(lookup(grid, points), [grid[0, 0], grid[6, 6], grid[0, 6], 0.0, 0.0, 0.0], atol=1e-6)


def test_the_threshold_is_the_mean_up_to_a_limit():
    grid = jnp.zeros((9, 9)).at[4, 4].set(0.81)
    points = jnp.array([[0.0, 0.0], [0.0, 0.2], [0.0, 0.24], [0.9, 0.9]])
    # Bilinear values 0.81, 0.162, 0.0324, 0; the mean is 0.01.
    assert occupied(grid, points, limit=0.2).tolist() == [True, True, True, False]
    assert occupied(grid, points, limit=0.0).tolist() == [True, True, True, False]
    wide = jnp.full((9, 9), 0.5)
    assert not bool(occupied(wide, points, limit=1.0).any()), "equal to the mean is not above it"
    assert bool(occupied(wide, points, limit=0.01).all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plane_cell_points(jnp.zeros((4, 5, 2))), r"noise must be \[R, R, 2\]"),
        (lambda: plane_update(jnp.zeros((4, 4)), jnp.zeros(16)), r"grid and alpha must both be \[R, R\]"),
        (lambda: plane_lookup(jnp.zeros(16), jnp.zeros((3, 2))), r"grid must be \[R, R\]"),
        (lambda: plane_lookup(jnp.zeros((4, 4)), jnp.zeros((3, 3))), r"points must be \[N, 2\]"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
