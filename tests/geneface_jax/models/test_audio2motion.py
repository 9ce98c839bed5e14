"""The audio2motion VAE: size of the original, flow, masks, noise per position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.audio2motion import Audio2Motion, PriorFlow, pair_audio, position_noise
from tests.small_vae import noisy, small_vae


@pytest.fixture(scope="module")
def vae():
    return small_vae()


def test_reference_size_is_the_original_one():
    inputs = (jnp.zeros((1, 8, 204)), jnp.ones((1, 8)), jnp.zeros((1, 16, 1024)), jnp.zeros((1, 2, 16)))
    shapes = jax.eval_shape(Audio2Motion().init, jax.random.key(0), *inputs)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 11_127_500


def test_flow_is_undone_by_its_inverse_and_starts_as_a_reversal():
    flow = PriorFlow(3, 8, 2)
    z, condition, mask = (
        jax.random.normal(jax.random.key(0), (2, 6, 16)),
        jax.random.normal(jax.random.key(1), (2, 6, 4)),
        jnp.ones((2, 6, 1)),
    )
    variables = flow.init(jax.random.key(2), z, mask, condition)
    np.testing.assert_allclose(flow.apply(variables, z, mask, condition), z[..., ::-1], atol=1e-6)
    variables = noisy(variables)
    there = flow.apply(variables, z, mask, condition)
    assert np.abs(there - z).max() > 0.1
    np.testing.assert_allclose(flow.apply(variables, there, mask, condition, inverse=True), z, atol=1e-4)


def test_flow_preserves_volume():
    flow = PriorFlow(2, 8, 1)
    z, condition, mask = jax.random.normal(jax.random.key(0), (1, 1, 6)), jnp.ones((1, 1, 4)), jnp.ones((1, 1, 1))
    variables = noisy(flow.init(jax.random.key(2), z, mask, condition))
    jacobian = jax.jacobian(lambda v: flow.apply(variables, v.reshape(1, 1, 6), mask, condition).reshape(-1))(z.reshape(-1))
    assert abs(abs(float(jnp.linalg.det(jacobian))) - 1.0) < 1e-4


def test_padding_does_not_reach_the_reconstruction(vae):
    network, variables = vae
    key = jax.random.key(3)
    motion, audio, noise = jax.random.normal(key, (1, 8, 204)), jax.random.normal(key, (1, 16, 5)), jax.random.normal(key, (1, 2, 16))
    mask = jnp.array([[1.0] * 4 + [0.0] * 4])
    first, _ = network.apply(variables, motion, mask, audio, noise)
    second, _ = network.apply(variables, motion, mask, audio, noise.at[:, 1].add(5.0))
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert np.all(first[:, 4:] == 0)


def test_audio_pairing():
    audio = jnp.arange(12.0).reshape(1, 6, 2)
    np.testing.assert_array_equal(pair_audio(audio, "even"), audio[:, ::2])
    np.testing.assert_array_equal(pair_audio(audio, "stack")[0, 1], [4, 5, 6, 7])
    with pytest.raises(ValueError, match="pairing"):
        pair_audio(audio, "odd")


def test_noise_belongs_to_positions():
    key = jax.random.key(7)
    np.testing.assert_array_equal(position_noise(key, 0, 10, 4)[3:], position_noise(key, 3, 7, 4))
    many = position_noise(key, 0, 2000, 4)
    assert abs(float(many.mean())) < 0.05 and abs(float(many.std()) - 1) < 0.05
