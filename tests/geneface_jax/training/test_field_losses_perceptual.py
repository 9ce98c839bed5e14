"""The guard around a perceptual term: the same gradient when it is sound, none when it isn't."""

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.training.field_losses import guarded, ramp


def distance(images):
    return jnp.sum(jnp.sin(images) ** 2)


def test_a_sound_term_has_its_own_value_and_gradient():
    images = jnp.linspace(0.1, 1.0, 12).reshape(1, 2, 2, 3)
    term = guarded(distance, images)
    np.testing.assert_allclose(term.loss, distance(images), rtol=1e-6)
    np.testing.assert_allclose(term.value, distance(images), rtol=1e-6)
    assert term.skipped == 0
    gradient = jax.grad(lambda x: 3.0 * guarded(distance, x * 2.0).loss)(images)
    np.testing.assert_allclose(gradient, jax.grad(lambda x: 3.0 * distance(x * 2.0))(images), rtol=1e-5)


def test_a_broken_gradient_is_left_out_and_counted():
    images = jnp.array([0.0, 1.0])
    for broken in (lambda x: jnp.sum(jnp.sqrt(x)), lambda x: jnp.sum(x / x), lambda x: jnp.sum(x) + jnp.inf):
        term = guarded(broken, images)
        assert term.skipped == 1 and term.value == 0 and term.loss == 0
        np.testing.assert_array_equal(jax.grad(lambda x, broken=broken: guarded(broken, x).loss + jnp.sum(x))(images), 1.0)


def test_the_ramp_rises_to_one():
    values = [float(ramp(jnp.int32(step), 10, 4)) for step in (0, 9, 10, 11, 13, 100)]
    np.testing.assert_allclose(values, [0.0, 0.0, 0.25, 0.5, 1.0, 1.0])
    assert [float(ramp(jnp.int32(step), 10, 0)) for step in (9, 10)] == [0.0, 1.0]
