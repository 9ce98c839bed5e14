"""Spherical harmonics: orthonormal on the sphere, the same polynomials off it, gradients, bad input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from geneface_kernels.encodings import MAX_DEGREE, spherical_harmonics
from numpy.polynomial import legendre

from tests.parity.kernels.recorded import assert_equals_recorded


def directions(n=200, seed=0, unit=True):
    d = np.random.default_rng(seed).normal(size=(n, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True) if unit else d


def polynomials(d, degree):
    """The definition in double precision, from numpy's Legendre series."""
    x, y, z = d.T
    columns = []
    for band in range(degree):
        for m in range(-band, band + 1):
            order = abs(m)
            along_z = legendre.legval(z, legendre.legder(np.eye(band + 1)[band], order))
            around_z = ((x + 1j * y) ** order).imag if m < 0 else ((x + 1j * y) ** order).real
            norm = (2 * band + 1) / (4 * math.pi) * math.factorial(band - order) / math.factorial(band + order) * (2 if m else 1)
            columns.append((-1) ** order * math.sqrt(norm) * along_z * around_z)
    return np.stack(columns, axis=1)


def test_orthonormal_on_the_unit_sphere():
    # Gauss-Legendre in z times equal steps around z integrates products of two bands up to 7 exactly.
    z, weight = legendre.leggauss(MAX_DEGREE)
    angle = np.arange(2 * MAX_DEGREE) * np.pi / MAX_DEGREE
    ring = np.sqrt(1 - z**2)[:, None]
    d = np.stack([ring * np.cos(angle), ring * np.sin(angle), np.broadcast_to(z[:, None], (len(z), len(angle)))], axis=-1)
    basis = np.asarray(spherical_harmonics(jnp.asarray(d, jnp.float32), MAX_DEGREE), np.float64)
    gram = np.einsum("zai,zaj,z->ij", basis, basis, weight) * (np.pi / MAX_DEGREE)
    np.testing.assert_allclose(gram, np.eye(MAX_DEGREE**2), atol=2e-6)


def test_equals_scipy_on_unit_vectors():
    d = directions()
    found = np.asarray(spherical_harmonics(jnp.asarray(d, jnp.float32), MAX_DEGREE))
    polar, azimuth = np.arccos(d[:, 2]), np.arctan2(d[:, 1], d[:, 0])
    column = 0
    for band in range(MAX_DEGREE):
        for m in range(-band, band + 1):
            complex_value = scipy.special.sph_harm_y(band, abs(m), polar, azimuth)
            expected = complex_value.real if m == 0 else math.sqrt(2) * (complex_value.imag if m < 0 else complex_value.real)
            np.testing.assert_allclose(found[:, column], expected, atol=3e-6, err_msg=f"l = {band}, m = {m}")
            column += 1


def test_not_normalized():
    """Off the unit sphere only z enters the Legendre part, and constants stay constants."""
    x, y, z = 0.5, -2.0, 3.0
    found = np.asarray(spherical_harmonics(jnp.array([x, y, z]), 4))
    written_out = {
        0: 0.28209479,
        6: 0.94617470 * z * z - 0.31539157,
        9: 0.59004359 * y * (y * y - 3 * x * x),
        11: 0.45704580 * y * (1 - 5 * z * z),
        12: 0.37317633 * z * (5 * z * z - 3),
        14: 1.44530572 * z * (x * x - y * y),
        15: 0.59004359 * x * (3 * y * y - x * x),
    }
    np.testing.assert_allclose(found[list(written_out)], list(written_out.values()), rtol=1e-6)
    d = directions(unit=False, seed=1)
    expected = polynomials(d, MAX_DEGREE)
    np.testing.assert_allclose(spherical_harmonics(jnp.asarray(d, jnp.float32), MAX_DEGREE), expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("degree", range(1, MAX_DEGREE + 1))
def test_a_lower_degree_is_the_beginning_of_a_higher_one(degree):
    d = jnp.asarray(directions(20, seed=2), jnp.float32)
    found = spherical_harmonics(d.reshape(4, 5, 3), degree)
    assert found.shape == (4, 5, degree**2) and found.dtype == jnp.float32
    np.testing.assert_allclose(found.reshape(20, -1), polynomials(np.asarray(d, np.float64), degree), atol=3e-6)


@pytest.mark.parametrize("degree", [4, MAX_DEGREE])
def test_gradients_match_finite_differences(degree):
    d = directions(50, seed=3, unit=False)
    upstream = np.random.default_rng(4).normal(size=degree**2)
    found = jax.grad(lambda d: jnp.sum(spherical_harmonics(d, degree) @ jnp.asarray(upstream, jnp.float32)))(jnp.asarray(d, jnp.float32))
    step = 1e-5
    for axis in range(3):
        shift = np.eye(3)[axis] * step
        slope = (polynomials(d + shift, degree) - polynomials(d - shift, degree)) @ upstream / (2 * step)
        np.testing.assert_allclose(found[:, axis], slope, rtol=2e-4, atol=2e-4 * np.abs(slope).max())


@pytest.mark.parametrize("degree", [0, MAX_DEGREE + 1, 2.0])
@pytest.mark.usefixtures("unchecked_annotations")
def test_a_degree_out_of_range_is_named(degree):
    with pytest.raises(ValueError, match="degree must be"):
        spherical_harmonics(jnp.zeros((2, 3)), degree)


@pytest.mark.parametrize("d", [jnp.zeros((3, 2)), jnp.zeros(()), jnp.zeros((4, 3), jnp.int32)])
@pytest.mark.usefixtures("unchecked_annotations")
def test_wrong_directions_are_named(d):
    with pytest.raises(ValueError, match=r"d must be floating-point directions of shape \[..., 3\], got"):
        spherical_harmonics(d, 4)


def test_equals_the_original_kernel(shared):
    assert_equals_recorded(shared, "spherical_harmonics")
