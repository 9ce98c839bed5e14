"""The causal network of live speech: nothing depends on later frames, and blocks with a carried past are the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.live_motion import PAST, CausalConv1d, LiveMotion, empty_past

T, CHANNELS = 24, 5


@pytest.fixture(scope="module")
def network():
    return LiveMotion(motion_dim=9, condition=8, hidden=8, layers=2, kernel_size=3)


@pytest.fixture(scope="module")
def variables(network):
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 2 * T, CHANNELS)))
    stats = jax.tree.map(lambda x: x + 0.5, variables["batch_stats"])
    return {"params": variables["params"], "batch_stats": stats}


@pytest.fixture(scope="module")
def audio():
    return np.random.default_rng(0).normal(size=(1, 2 * T, CHANNELS)).astype(np.float32)


def test_frames_depend_on_earlier_ones_alone(network, variables, audio):
    changed = audio.copy()
    changed[:, 20:] += 1.0
    before, after = (np.asarray(network.apply(variables, x)) for x in (audio, changed))
    np.testing.assert_array_equal(after[:, :10], before[:, :10])
    assert (np.abs(after - before)[0, 10:].max(-1) > 1e-6).all()
    assert before.shape == (1, T, 9)


@pytest.mark.parametrize("block", [1, 3, 8])
def test_blocks_with_their_past_are_the_whole(network, variables, audio, block):
    whole = np.asarray(network.apply(variables, audio))
    stream, past, found = network.clone(stream=True), empty_past(network, (1, 2 * block, CHANNELS)), []
    for i in range(0, T, block):
        motion, updates = stream.apply({**variables, PAST: past}, audio[:, 2 * i : 2 * (i + block)], mutable=[PAST])
        past = updates[PAST]
        found.append(motion)
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, rtol=1e-4, atol=1e-5)


def test_the_past_has_only_what_convolutions_need():
    convolution = CausalConv1d(4, 5, stream=True)
    past = convolution.init(jax.random.key(0), jnp.zeros((1, 2, 3)))[PAST]
    assert jax.tree.map(jnp.shape, past) == {"frames": (1, 4, 3)}
    assert PAST not in CausalConv1d(4, 1, stream=True).init(jax.random.key(0), jnp.zeros((1, 2, 3)))
