"""Layers follow PyTorch (definitions written out in numpy)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.layers import BatchNorm1d, Conv1d, Upsample1d, WeightNormConv1d, conv1d


def slow_conv(x, kernel, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (0, 0)))
    taps = kernel.shape[0]
    frames = [np.einsum("bki,kio->bo", x[:, t : t + taps], kernel) for t in range(0, x.shape[1] - taps + 1, stride)]
    return np.stack(frames, axis=1)


@pytest.mark.parametrize(("taps", "stride", "padding", "length"), [(3, 1, 1, 7), (3, 2, 1, 10), (8, 4, 2, 12), (3, 1, 0, 3), (1, 1, 0, 4)])
def test_conv1d_is_a_symmetrically_padded_correlation(taps, stride, padding, length):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, length, 5)), rng.normal(size=(taps, 5, 4))
    np.testing.assert_allclose(conv1d(jnp.array(x), jnp.array(kernel), stride, padding), slow_conv(x, kernel, stride, padding), atol=1e-5)


def test_initial_values_are_within_pytorchs_bound_and_fill_it():
    params = Conv1d(64, 5).init(jax.random.key(0), jnp.zeros((1, 8, 20)))["params"]
    bound = 1 / np.sqrt(5 * 20)
    for value in params.values():
        assert np.abs(value).max() <= bound
    assert np.abs(params["kernel"]).max() > 0.99 * bound and abs(float(np.std(params["kernel"])) - bound / np.sqrt(3)) < 0.02 * bound


def test_weight_norm_starts_as_the_plain_convolution_and_scale_sets_the_norm():
    layer, x = WeightNormConv1d(6, 3), jax.random.normal(jax.random.key(1), (2, 9, 4))
    params = layer.init(jax.random.key(0), x)["params"]
    plain = conv1d(x, params["direction"], 1, 1) + params["bias"]
    np.testing.assert_allclose(layer.apply({"params": params}, x), plain, atol=1e-6)
    longer = {**params, "direction": 7.0 * params["direction"]}
    np.testing.assert_allclose(layer.apply({"params": longer}, x), plain, atol=1e-5)


def test_upsampling_writes_every_frame_into_its_own_slots():
    layer, x = Upsample1d(3, 4), np.zeros((1, 5, 2), np.float32)
    x[0, 2] = (1.0, -2.0)
    params = layer.init(jax.random.key(0), x)["params"]
    y = layer.apply({"params": params}, x) - params["bias"]
    assert y.shape == (1, 20, 3)
    assert np.all(y[0, :8] == 0) and np.all(y[0, 12:] == 0)
    np.testing.assert_allclose(y[0, 9], x[0, 2] @ np.asarray(params["kernel"])[:, 1], atol=1e-6)


def test_batch_norm_normalizes_and_keeps_unbiased_running_statistics():
    layer, x = BatchNorm1d(), 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (4, 5, 6))
    variables = layer.init(jax.random.key(0), x, train=False)
    y, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(np.mean(y, (0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(y, (0, 1)), 1, atol=1e-4)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * np.mean(x, (0, 1)), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * np.var(x, (0, 1), ddof=1), rtol=1e-4)


def test_batch_norm_over_a_mapped_axis_equals_the_whole_batch():
    layer, x = BatchNorm1d(axis_name="i"), jax.random.normal(jax.random.key(0), (4, 5, 6))
    variables = layer.init(jax.random.key(0), x, train=False)
    y, updates = BatchNorm1d().apply(variables, x, train=True, mutable=["batch_stats"])
    split = x.reshape(2, 2, 5, 6)
    mapped, mapped_updates = jax.vmap(lambda part: layer.apply(variables, part, train=True, mutable=["batch_stats"]), axis_name="i")(split)
    np.testing.assert_allclose(mapped.reshape(y.shape), y, atol=1e-5)
    np.testing.assert_allclose(mapped_updates["batch_stats"]["var"][1], updates["batch_stats"]["var"], rtol=1e-5)
