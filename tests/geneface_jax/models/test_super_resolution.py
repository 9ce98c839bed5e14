"""Super-resolution: its fast convolution against the definition, its noise, its shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.super_resolution import SuperResolution, upsample_image, upsampling_convolution

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 16.0


def depthwise(x, padding):
    kernel = jnp.tile(jnp.asarray(FILTER)[:, :, None, None], (1, 1, 1, x.shape[-1]))
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=dimensions, feature_group_count=x.shape[-1])


def zero_insert(x):
    out = np.zeros((x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), np.float32)
    out[:, ::2, ::2] = x
    return out


def test_upsampling_convolution_is_zero_insertion_convolution_and_filter():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 5, 6, 3)).astype(np.float32), rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    inserted = zero_insert(x)[:, :-1, :-1]
    dimensions = ("NHWC", "HWIO", "NHWC")
    convolved = jax.lax.conv_general_dilated(inserted, kernel[::-1, ::-1], (1, 1), ((2, 2), (2, 2)), dimension_numbers=dimensions)
    expected = depthwise(convolved, ((1, 1), (1, 1)))
    found = upsampling_convolution(jnp.asarray(x), jnp.asarray(kernel))
    assert found.shape == (2, 10, 12, 4)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_upsampled_image_is_zero_insertion_and_filter():
    x = np.random.default_rng(1).normal(size=(1, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(upsample_image(jnp.asarray(x)), depthwise(zero_insert(x), ((2, 1), (2, 1))), atol=1e-6)


def test_noise_moves_the_picture_only_when_asked():
    model = SuperResolution(size=8, features=(4, 4))
    rgb = jnp.full((1, 8, 8, 3), 0.5)
    variables = model.init(jax.random.key(0), rgb)
    strong = jax.tree_util.tree_map_with_path(lambda path, v: v + 1.0 if "noise_strength" in str(path) else v, variables["params"])
    variables = {**variables, "params": strong}
    plain = model.apply(variables, rgb)
    assert plain.shape == (1, 16, 16, 3)
    np.testing.assert_array_equal(plain, model.apply(variables, rgb))
    constant = model.apply(variables, rgb, "constant")
    np.testing.assert_array_equal(constant, model.apply(variables, rgb, "constant"))
    drawn = [model.apply(variables, rgb, jax.random.key(seed)) for seed in (1, 2)]
    pictures = [plain, constant, *drawn]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(pictures) for b in pictures[:i])


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"rgb must be \[B, 8, 8, 3\], got \(1, 4, 4, 3\)"):
        SuperResolution(size=8).init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
