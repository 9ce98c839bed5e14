"""Morton order and bit fields: bijections, the bit rules, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.occupancy import MAX_COORDINATE, from_morton_order, morton_encode, unpack_bits

from tests.parity.kernels.morton import morton_decode, pack_bits, to_morton_order
from tests.parity.kernels.recorded import assert_equals_recorded


def test_bits_are_interleaved_x_lowest():
    coords = np.random.default_rng(0).integers(0, MAX_COORDINATE + 1, (200, 3))
    coords[:3] = [[MAX_COORDINATE] * 3, [0] * 3, [1, 2, 4]]
    expected = [sum((int(c[axis]) >> bit & 1) << (3 * bit + axis) for bit in range(10) for axis in range(3)) for c in coords]
    found = morton_encode(jnp.asarray(coords))
    assert found.dtype == jnp.int32 and found.tolist() == expected
    assert found[0] == 2**30 - 1
    np.testing.assert_array_equal(morton_decode(found), coords)


def test_all_cells_of_a_cube_are_visited_once():
    side = 16
    coords = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    indices = np.asarray(morton_encode(jnp.asarray(coords)))
    assert indices.shape == (side,) * 3
    np.testing.assert_array_equal(np.sort(indices.reshape(-1)), np.arange(side**3))
    np.testing.assert_array_equal(morton_decode(jnp.asarray(indices)), coords)


@pytest.mark.parametrize("side", [1, 4, 32])
def test_orders_are_inverse(side):
    grid = jnp.asarray(np.random.default_rng(1).normal(size=(2, side, side, side)), jnp.float32)
    along_curve = jax.jit(to_morton_order)(grid)
    assert along_curve.shape == (2, side**3)
    np.testing.assert_array_equal(jax.jit(from_morton_order)(along_curve), grid)


def test_a_cell_goes_where_its_index_says():
    grid = jnp.zeros((2, 8, 8, 8), jnp.int32).at[1, 3, 5, 6].set(7)
    along_curve = to_morton_order(grid)
    assert int(along_curve[1, morton_encode(jnp.array([3, 5, 6]))]) == 7 and int(jnp.abs(along_curve).sum()) == 7


def test_bits_are_least_significant_first_and_strictly_above_the_threshold():
    grid = np.random.default_rng(2).uniform(-1, 1, (2, 64)).astype(np.float32)
    grid[0, :8] = [0.25, np.nan, -1.0, 0.3, 0.25, np.inf, -np.inf, 0.2501]
    bits = pack_bits(jnp.asarray(grid), 0.25)
    assert bits.dtype == jnp.uint8 and bits.shape == (16,)
    assert int(bits[0]) == 0b10101000
    np.testing.assert_array_equal(bits, np.packbits(grid.reshape(-1) > 0.25, bitorder="little"))
    np.testing.assert_array_equal(unpack_bits(bits), grid.reshape(-1) > 0.25)


@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_input_is_named():
    with pytest.raises(ValueError, match="coords must be integers"):
        morton_encode(jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match="coords must be integers"):
        morton_encode(jnp.zeros((4, 2), jnp.int32))
    with pytest.raises(ValueError, match="indices must be integers"):
        morton_decode(jnp.zeros(4))
    with pytest.raises(ValueError, match="grid must hold a multiple of 8 cells"):
        pack_bits(jnp.zeros((3, 3)), 0.0)
    with pytest.raises(ValueError, match="bits must be uint8"):
        unpack_bits(jnp.zeros(4))


@pytest.mark.parametrize("shape", [(1, 4, 4, 8), (4, 4, 4), (1, 6, 6, 6), (1, 0, 0, 0)])
def test_a_grid_without_a_curve_is_named(shape):
    with pytest.raises(ValueError, match="grid must"):
        to_morton_order(jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(8,), (1, 9), (1, 27), (1, 0)])
@pytest.mark.usefixtures("unchecked_annotations")
def test_a_curve_without_a_grid_is_named(shape):
    with pytest.raises(ValueError, match="grid must"):
        from_morton_order(jnp.zeros(shape))


def test_equals_the_original_kernel(shared):
    assert_equals_recorded(shared, "bit_grid")
