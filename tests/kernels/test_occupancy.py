"""The head's 3D occupancy grid: cells, dilation, running maximum, cells no camera sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.occupancy import (
    cascade_extent,
    cell_centers,
    cell_points,
    dilate,
    mean_density,
    occupied,
    pack_cells,
    unpack_cells,
    update_density,
)

from tests.parity.kernels import visibility
from tests.parity.kernels.recorded import assert_equals_recorded
from tests.parity.kernels.visibility import UNSEEN

INTRINSICS = (100.0, 100.0, 20.0, 20.0)
count_views = jax.jit(visibility.count_views, static_argnums=(1, 2, 3, 4))


def random_grid(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).gamma(0.5, 4.0, shape), jnp.float32)


def test_cell_centers_cover_the_cube():
    centers = np.asarray(cell_centers(4, 1.0)).reshape(4, 4, 4, 3)
    np.testing.assert_allclose(centers[0, 1, 3], [-0.75, -0.25, 0.75])
    np.testing.assert_allclose(cell_centers(6, 1.5).mean(axis=0), 0.0, atol=1e-6)


@pytest.mark.parametrize("bound", [1.0, 3.0])
def test_points_stay_in_their_cells(bound):
    cascades, side = 3, 6
    noise = np.random.default_rng(0).random((cascades, side, side, side, 3)).astype(np.float32)
    noise[0, 0, 0, 0], noise[0, 0, 0, 1] = 0.0, 1.0 - 2.0**-24
    points = np.asarray(cell_points(jnp.asarray(noise), bound), np.float64)
    cells = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    for cascade in range(cascades):
        extent = min(2.0**cascade, bound)
        assert cascade_extent(cascade, bound) == extent
        place = (points[cascade] / extent + 1.0) * side / 2.0
        np.testing.assert_allclose(place - cells, noise[cascade], atol=2e-6)


def test_dilation_reaches_face_neighbors_only():
    grid = jnp.zeros((5, 5, 5)).at[2, 2, 2].set(1.0).at[0, 0, 0].set(2.0)
    out = np.asarray(dilate(grid))
    assert out.sum() == 7 * 1.0 + 4 * 2.0
    assert out[2, 2, 3] == 1.0 and out[2, 3, 3] == 0.0 and out[0, 0, 1] == 2.0 and out[4, 0, 0] == 0.0


def test_cascades_do_not_touch_each_other():
    grid = random_grid(3, 6, 6, 6)
    np.testing.assert_array_equal(dilate(grid), jnp.stack([dilate(cube) for cube in grid]))


def test_update_keeps_unseen_cells_and_decays_the_rest():
    grid = jnp.full((4, 4, 4), UNSEEN).at[0].set(10.0)
    out = update_density(grid, jnp.zeros((4, 4, 4)), decay=0.5)
    np.testing.assert_array_equal(out[1:], UNSEEN)
    np.testing.assert_array_equal(out[0], 5.0)
    risen = update_density(grid, jnp.full((4, 4, 4), 7.0), decay=0.5)
    np.testing.assert_array_equal(risen[0], 7.0)


def test_update_skips_cells_whose_density_is_negative_or_nan():
    grid = jnp.full((5, 5, 5), 10.0)
    out = update_density(grid, jnp.full((5, 5, 5), -1.0).at[2, 2, 2].set(jnp.nan), decay=0.5)
    np.testing.assert_array_equal(out, grid)


def test_a_cell_must_be_denser_than_the_threshold():
    assert not bool(occupied(jnp.full((2, 2, 2), 5.0), limit=5.0).any())
    assert bool(occupied(jnp.full((2, 2, 2), 5.0), limit=4.9).all())


def test_the_threshold_is_the_mean_of_all_cascades_up_to_a_limit():
    grid = random_grid(2, 8, 8, 8).at[0, 0].set(UNSEEN)
    mean = np.maximum(np.asarray(grid, np.float64), 0.0).mean()
    np.testing.assert_allclose(mean_density(grid), mean, rtol=1e-6)
    np.testing.assert_array_equal(occupied(grid, limit=100.0), np.asarray(grid) > np.float32(mean))
    np.testing.assert_array_equal(occupied(grid, limit=0.5), np.asarray(grid) > 0.5)


def cameras():
    """Two cameras on the z axis, one looking at the origin and one away from it; z is the viewing direction."""
    towards = np.diag([1.0, -1.0, -1.0, 1.0])
    towards[2, 3] = 2.0
    away = np.eye(4)
    away[2, 3] = 2.0
    return jnp.asarray(np.stack([towards, away]), jnp.float32)


def test_cells_count_the_cameras_that_see_them():
    side, bound, intrinsics = 8, 1.0, (100.0, 80.0, 25.0, 10.0)
    found = np.asarray(count_views(cameras(), intrinsics, side, 1, bound))
    assert found.shape == (1, side, side, side) and found.dtype == np.int32
    fx, fy, cx, cy = intrinsics
    margin = 2.0 / side
    expected = np.zeros((side,) * 3, int)
    for cell in np.ndindex(side, side, side):
        x, y, z = (2.0 * np.asarray(cell) + 1.0) / side - 1.0
        depth = 2.0 - z
        expected[cell] = abs(x) < cx / fx * depth + 2 * bound / side and abs(y) < cy / fy * depth + margin
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(found[0], expected)


def test_a_camera_beyond_a_cascade_sees_it_only_when_it_looks_there():
    count = np.asarray(count_views(cameras(), INTRINSICS, 8, 2, 4.0))
    assert count.shape == (2, 8, 8, 8)
    # The camera at z = 2 is outside the first cascade and on the border of the second: the one that looks away sees nothing of either.
    one = np.asarray(count_views(cameras()[:1], INTRINSICS, 8, 2, 4.0))
    np.testing.assert_array_equal(count, one)
    assert count[1].sum() != count[0].sum() > 0
    wide = np.asarray(count_views(cameras()[1:], INTRINSICS, 8, 3, 4.0))
    assert wide[2].any() and not wide[:2].any()


def test_unseen_cells_stay_empty_whatever_the_field_says():
    views = jnp.asarray(np.random.default_rng(3).integers(0, 3, (1, 6, 6, 6)))
    grid = visibility.mark_untrained(jnp.zeros(views.shape), views)
    step = jax.jit(update_density)
    for turn in range(3):
        grid = step(grid, random_grid(1, 6, 6, 6, seed=turn) + 1.0)
    np.testing.assert_array_equal(grid == UNSEEN, views == 0)
    assert not bool(jnp.any(occupied(grid, 0.0) & (views == 0)))
    assert bool(jnp.all(occupied(grid, 0.0) | (views == 0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dilate(jnp.zeros((4, 4))), r"grid must be \[..., R, R, R\]"),
        (lambda: update_density(jnp.zeros((4, 4, 4)), jnp.zeros((1, 4, 4, 4))), "density must have the shape of grid"),
        (lambda: cell_points(jnp.zeros((4, 4, 4, 3)), 1.0), r"noise must be \[C, R, R, R, 3\]"),
        (lambda: cell_points(jnp.zeros((1, 4, 5, 4, 3)), 1.0), r"noise must be \[C, R, R, R, 3\]"),
        (lambda: visibility.count_views(jnp.zeros((4, 4)), (1.0, 1.0, 1.0, 1.0), 4, 1, 1.0), r"poses must be \[P, 4, 4\]"),
        (lambda: visibility.count_views(jnp.zeros((1, 4, 4)), (1.0, 1.0), 4, 1, 1.0), "intrinsics must be fx, fy, cx and cy"),
        (lambda: visibility.mark_untrained(jnp.zeros((4, 4, 4)), jnp.zeros((1, 4, 4, 4))), "views must have the shape of grid"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_equals_the_original_updates(shared):
    assert_equals_recorded(shared, "occupancy_grid")


def test_cells_as_bits_and_back():
    cells = np.random.default_rng(0).random((64, 64, 64)) < 0.3
    bits = jax.jit(pack_cells)(jnp.asarray(cells))
    assert bits.shape == (64, 64, 2) and bits.dtype == jnp.uint32
    # Bit b of word z is cell 32 z + b.
    np.testing.assert_array_equal(np.unpackbits(np.asarray(bits).view(np.uint8), axis=2, bitorder="little"), cells)
    np.testing.assert_array_equal(unpack_cells(bits), cells)
    for corner in (0, 31, 32, 63):
        one = np.zeros((64, 64, 64), bool)
        one[5, 7, corner] = True
        np.testing.assert_array_equal(unpack_cells(pack_cells(jnp.asarray(one))), one)


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("shape", [(16, 16, 16), (48, 48, 48), (32, 32, 64), (64, 32, 32), (32, 32), (0, 0, 0), (1, 32, 32, 32)])
def test_what_is_no_cube_of_whole_words_is_not_packed(shape):
    with pytest.raises(ValueError, match=r"\[R, R, R\] with R a multiple of 32, got"):
        pack_cells(jnp.zeros(shape, bool))
