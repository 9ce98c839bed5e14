"""Speech to motion on recordings of any length."""

import jax
import numpy as np
import pytest

from geneface_jax.models.audio2motion import BUCKET, generate
from tests.small_vae import small_vae


@pytest.fixture(scope="module")
def vae():
    return small_vae()


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
