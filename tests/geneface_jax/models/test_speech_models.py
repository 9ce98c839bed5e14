import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.audio2motion import Audio2Motion, PriorFlow, pair_audio, position_noise
from geneface_jax.models.postnet import CNNPostNet, MLPDiscriminator
from geneface_jax.models.speech_to_motion import BUCKET, generate
from geneface_jax.models.syncnet import SyncNet, cosine

SMALL = {"condition": 8, "hidden": 8, "encoder_layers": 2, "decoder_layers": 2, "flow_blocks": 2, "flow_hidden": 8, "flow_layers": 1}


def noisy(tree, key=0, scale=0.2):
    """Moves all parameters off their initial values (a flow starts as the identity, a PostNet as nothing)."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(key), len(leaves))
    return structure.unflatten([leaf + scale * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)])


@pytest.fixture(scope="module")
def vae():
    network = Audio2Motion(**SMALL)
    inputs = (jnp.zeros((1, 8, 204)), jnp.ones((1, 8)), jnp.zeros((1, 16, 5)), jnp.zeros((1, 2, 16)))
    variables = network.init(jax.random.key(0), *inputs)
    return network, {**variables, "params": noisy(variables["params"])}


def test_reference_sizes_are_the_originals():
    def count(network, *inputs):
        return sum(x.size for x in jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]))

    zeros = jnp.zeros
    assert count(SyncNet(), zeros((1, 10, 1024)), zeros((1, 5, 60))) == 9_304_352
    assert count(Audio2Motion(), zeros((1, 8, 204)), zeros((1, 8)), zeros((1, 16, 1024)), zeros((1, 2, 16))) == 11_127_500
    assert count(CNNPostNet(), zeros((1, 8, 204))) == 796_620
    assert count(MLPDiscriminator(), zeros((1, 8, 204))) == 158_080


def test_syncnet_embeds_on_the_positive_part_of_the_sphere():
    network = SyncNet(8)
    audio, mouth = jax.random.normal(jax.random.key(0), (6, 10, 7)), jax.random.normal(jax.random.key(1), (6, 5, 60))
    variables = network.init(jax.random.key(2), audio, mouth)
    (a, m), _ = network.apply(variables, audio, mouth, train=True, mutable=["batch_stats"])
    assert a.shape == m.shape == (6, 32)
    assert float(a.min()) >= 0 and float(m.min()) >= 0
    np.testing.assert_allclose(np.linalg.norm(a, axis=-1), 1, atol=1e-5)
    assert np.all((cosine(a, m) >= 0) & (cosine(a, m) <= 1 + 1e-6))


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


@pytest.mark.parametrize("frames", [1, 3, BUCKET, BUCKET + 5])
def test_generate_takes_any_length(vae, frames):
    network, variables = vae
    audio = np.random.default_rng(0).normal(size=(2 * frames, 5)).astype(np.float32)
    assert generate(network, variables, audio, np.zeros(5, np.float32), jax.random.key(0), 0.5).shape == (frames, 204)


def test_generate_is_the_same_whatever_follows_far_away(vae):
    network, variables = vae
    audio = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    quiet = np.zeros(5, np.float32)
    short = generate(network, variables, audio[:200], quiet, jax.random.key(0), 1.0)
    long = generate(network, variables, audio, quiet, jax.random.key(0), 1.0)
    np.testing.assert_allclose(short[:60], long[:60], atol=1e-5)
    assert np.abs(short - generate(network, variables, audio[:200], quiet, jax.random.key(1), 1.0)).max() > 1e-3
    zero = [generate(network, variables, audio[:200], quiet, jax.random.key(seed), 0.0) for seed in (0, 1)]
    np.testing.assert_array_equal(*zero)


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
