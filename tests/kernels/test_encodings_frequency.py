"""Frequency encoding: layout, accuracy at the highest octave, gradient, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.encodings import frequency_encode

from tests.parity.kernels.recorded import assert_equals_recorded


def points(n=100, dims=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (n, dims)), jnp.float32)


def test_layout():
    out = frequency_encode(jnp.array([[0.3, -0.2]]), 2)
    expected = [0.3, -0.2]
    for f in (1, 2):
        expected += [np.sin(f * 0.3), np.sin(f * -0.2), np.cos(f * 0.3), np.cos(f * -0.2)]
    np.testing.assert_allclose(out[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(frequency_encode(points(), 0), points())
    assert frequency_encode(points().reshape(4, 25, 2), 10).shape == (4, 25, 42)


def test_the_highest_octave_is_as_accurate_as_the_first():
    x = points(2000)
    out = np.asarray(jax.jit(frequency_encode, static_argnums=1)(x, 10))
    exact = np.asarray(x, np.float64) * 2.0**9
    np.testing.assert_allclose(out[:, -4:-2], np.sin(exact), atol=5e-7)
    np.testing.assert_allclose(out[:, -2:], np.cos(exact), atol=5e-7)


def test_gradient_matches_finite_differences():
    octaves, step = 4, 1e-6
    x = points(50, 3)
    upstream = np.random.default_rng(1).normal(size=3 * (1 + 2 * octaves))
    found = jax.grad(lambda x: jnp.sum(frequency_encode(x, octaves) @ jnp.asarray(upstream, jnp.float32)))(x)

    def encode(x):
        blocks = [x] + [wave(x * 2.0**octave) for octave in range(octaves) for wave in (np.sin, np.cos)]
        return np.concatenate(blocks, axis=-1) @ upstream

    exact = np.asarray(x, np.float64)
    for axis in range(3):
        shift = np.eye(3)[axis] * step
        np.testing.assert_allclose(found[:, axis], (encode(exact + shift) - encode(exact - shift)) / (2 * step), atol=1e-4)


@pytest.mark.parametrize(
    ("x", "octaves", "message"),
    [
        (jnp.zeros((2, 3)), -1, "octaves must be a whole number"),
        (jnp.zeros((2, 3)), 1.5, "octaves must be a whole number"),
        (jnp.zeros(()), 2, r"x must be floating-point coordinates of shape \[..., D\]"),
        (jnp.zeros((2, 3), jnp.int32), 2, "x must be floating-point coordinates"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_input_is_named(x, octaves, message):
    with pytest.raises(ValueError, match=message):
        frequency_encode(x, octaves)


def test_equals_the_original_kernel(shared):
    assert_equals_recorded(shared, "frequency_encoding")
