"""SyncNet: size of the original, unit embeddings."""

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.models.syncnet import SyncNet, cosine


def test_reference_size_is_the_original_one():
    shapes = jax.eval_shape(SyncNet().init, jax.random.key(0), jnp.zeros((1, 10, 1024)), jnp.zeros((1, 5, 60)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 9_304_352


def test_syncnet_embeds_on_the_positive_part_of_the_sphere():
    network = SyncNet(8)
    audio, mouth = jax.random.normal(jax.random.key(0), (6, 10, 7)), jax.random.normal(jax.random.key(1), (6, 5, 60))
    variables = network.init(jax.random.key(2), audio, mouth)
    (a, m), _ = network.apply(variables, audio, mouth, train=True, mutable=["batch_stats"])
    assert a.shape == m.shape == (6, 32)
    assert float(a.min()) >= 0 and float(m.min()) >= 0
    np.testing.assert_allclose(np.linalg.norm(a, axis=-1), 1, atol=1e-5)
    assert np.all((cosine(a, m) >= 0) & (cosine(a, m) <= 1 + 1e-6))
