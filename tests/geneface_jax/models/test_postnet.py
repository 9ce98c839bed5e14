"""PostNet: sizes of the originals, padding frames, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.postnet import CNNPostNet, MLPDiscriminator


@pytest.mark.parametrize(("network", "parameters"), [(CNNPostNet(), 796_620), (MLPDiscriminator(), 158_080)])
def test_reference_sizes_are_the_originals(network, parameters):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 204)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters


def test_postnet_adds_a_residual_to_unmasked_frames():
    motion = jax.random.normal(jax.random.key(0), (2, 8, 204)).at[1, 5:].set(0.0)
    zero = CNNPostNet(8, zero_init=True)
    np.testing.assert_array_equal(zero.apply(zero.init(jax.random.key(1), motion), motion), motion)
    network = CNNPostNet(8)
    output = network.apply(network.init(jax.random.key(1), motion), motion)
    assert np.abs(output - motion).max() > 1e-3 and np.all(output[1, 5:] == 0)


def test_discriminator_sees_single_frames_and_drops_out_only_in_training():
    network, motion = MLPDiscriminator(8, 0.5), jax.random.normal(jax.random.key(0), (2, 8, 204))
    variables = network.init(jax.random.key(1), motion)
    scores = network.apply(variables, motion)
    assert scores.shape == (2, 8)
    np.testing.assert_allclose(network.apply(variables, motion[:, ::-1]), scores[:, ::-1], atol=1e-6)
    trained = [network.apply(variables, motion, train=True, rngs={"dropout": jax.random.key(k)}) for k in (0, 1)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-4
