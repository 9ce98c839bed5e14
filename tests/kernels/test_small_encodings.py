"""Spherical harmonics, frequencies, occupancy grids."""

import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy_grid
from geneface_kernels.frequency_encoding import frequency_encode
from geneface_kernels.spherical_harmonics import spherical_harmonics_4


def test_spherical_harmonics_are_orthonormal():
    d = np.random.default_rng(0).normal(size=(200_000, 3))
    basis = np.asarray(spherical_harmonics_4(jnp.asarray(d / np.linalg.norm(d, axis=1, keepdims=True), jnp.float32)))
    np.testing.assert_allclose(basis.T @ basis / len(d) * 4 * np.pi, np.eye(16), atol=0.05)


def test_frequency_layout():
    out = frequency_encode(jnp.array([[0.3, -0.2]]), 2)
    expected = [0.3, -0.2]
    for f in (1, 2):
        expected += [np.sin(f * 0.3), np.sin(f * -0.2), np.cos(f * 0.3), np.cos(f * -0.2)]
    np.testing.assert_allclose(out[0], expected, rtol=1e-6)


def test_encodings_equal_the_original_kernels(shared):
    z = np.load(shared / "parity" / "kernels" / "sh_freq.npz", allow_pickle=False)
    np.testing.assert_allclose(spherical_harmonics_4(jnp.asarray(z["dirs"])), z["sh"], atol=2e-6)
    np.testing.assert_allclose(frequency_encode(jnp.asarray(z["freq_pose_x"]), 4), z["freq_pose_out"], atol=1e-5)
    # The original takes the cosine as sin(x + pi/2), which costs up to 2e-5 at the ninth octave.
    np.testing.assert_allclose(frequency_encode(jnp.asarray(z["freq_xy_x"]), 10), z["freq_xy_out"], atol=1e-4)


def test_dilation_reaches_face_neighbours_only():
    grid = jnp.zeros((5, 5, 5)).at[2, 2, 2].set(1.0).at[0, 0, 0].set(2.0)
    out = np.asarray(occupancy_grid.dilate(grid))
    assert out.sum() == 7 * 1.0 + 4 * 2.0
    assert out[2, 2, 3] == 1.0 and out[2, 3, 3] == 0.0 and out[0, 0, 1] == 2.0 and out[4, 0, 0] == 0.0


def test_update_keeps_unseen_cells_and_decays_the_rest():
    grid = jnp.full((4, 4, 4), -1.0).at[0].set(10.0)
    out = occupancy_grid.update(grid, jnp.zeros((4, 4, 4)), decay=0.5)
    np.testing.assert_array_equal(out[1:], -1.0)
    np.testing.assert_array_equal(out[0], 5.0)
    occupied = occupancy_grid.occupied(out, limit=10.0)
    assert bool(occupied[0].all()) and not bool(occupied[1:].any())
    equal = occupancy_grid.occupied(jnp.full((2, 2, 2), 5.0), limit=5.0)
    assert not bool(equal.any()), "a cell must be denser than the threshold, not equal to it"


def test_cell_centres_cover_the_cube():
    centres = np.asarray(occupancy_grid.cell_centres(4, 1.0)).reshape(4, 4, 4, 3)
    np.testing.assert_allclose(centres[0, 1, 3], [-0.75, -0.25, 0.75])
