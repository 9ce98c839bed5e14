"""The condition encoder: windows of frames, attention, blink."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.data.motion import windows
from geneface_jax.models.head import LONGEST, ConditionEncoder, FrameEncoder


@pytest.mark.parametrize("frames", [2, 3, 5, 8, 16])
def test_every_frame_of_a_window_changes_its_feature(frames):
    network = FrameEncoder(8, frames)
    x = jax.random.normal(jax.random.key(0), (2, frames, 6))
    variables = jax.jit(network.init)(jax.random.key(1), x)
    (_, out), gradient = jax.jit(jax.value_and_grad(lambda x: _sum(network.apply(variables, x)), has_aux=True))(x)
    assert out.shape == (2, 8)
    assert np.isfinite(out).all() and (np.abs(gradient).max(-1) > 0).all()


def _sum(x):
    return x.sum(), x


def test_a_single_frame_equals_the_convolutions():
    """The dense layers equal the middle taps of convolutions over one frame."""
    x = jax.random.normal(jax.random.key(0), (3, 6))
    dense = FrameEncoder(8)
    params = jax.jit(dense.init)(jax.random.key(1), x)["params"]
    y = x[:, None]
    for i in range(4):
        layer = params[f"conv_{i}"]
        kernel = jnp.stack([jnp.ones_like(layer["kernel"]) * 7.0, layer["kernel"], jnp.ones_like(layer["kernel"]) * -3.0])
        y = jax.lax.conv_general_dilated(y, kernel, (1,), ((1, 1),), dimension_numbers=("NWC", "WIO", "NWC")) + layer["bias"]
        y = jax.nn.leaky_relu(y, 0.02)
    y = jax.nn.leaky_relu(y[:, 0] @ params["fc_0"]["kernel"] + params["fc_0"]["bias"], 0.02)
    y = y @ params["fc_1"]["kernel"] + params["fc_1"]["bias"]
    np.testing.assert_allclose(dense.apply({"params": params}, x), y, atol=1e-5)


@pytest.mark.parametrize(("frames", "shape"), [(0, (1, 4)), (LONGEST + 1, (1, LONGEST + 1, 4)), (5, (1, 3, 4))])
def test_invalid_windows_are_refused(frames, shape):
    with pytest.raises(ValueError, match="frames|x must be"):
        FrameEncoder(8, frames).init(jax.random.key(0), jnp.zeros(shape))


def test_without_attention_only_the_middle_frame_counts():
    network = ConditionEncoder(8, 0, attention=False)
    x = jax.random.normal(jax.random.key(0), (2, 5, 6))
    variables = jax.jit(network.init)(jax.random.key(1), x, jnp.zeros(2))
    gradient = jax.jit(jax.grad(lambda x: network.apply(variables, x, jnp.zeros(2)).sum()))(x)
    assert set(np.flatnonzero(np.abs(gradient).max((0, 2)))) == {2}
    assert "attention" not in variables["params"]


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_eyes_move_the_condition_if_it_has_blink_channels(channels):
    network = ConditionEncoder(8, channels)
    x = jax.random.normal(jax.random.key(0), (2, 3, 6))
    variables = jax.jit(network.init)(jax.random.key(1), x, jnp.zeros(2))
    moved = network.apply(variables, x, jnp.full(2, 0.3)) - network.apply(variables, x, jnp.zeros(2))
    assert (np.abs(moved).max() > 1e-6) == (channels > 0)


def test_nested_windows_hold_the_frames_around_each_frame():
    x = np.arange(20.0)[:, None]
    nested = windows(x, 5, 3)
    assert nested.shape == (20, 5, 3, 1)
    np.testing.assert_array_equal(nested[10, 2, :, 0], [9, 10, 11])
    np.testing.assert_array_equal(nested[10, :, 1, 0], [8, 9, 10, 11, 12])
    encoder = ConditionEncoder(8, 2, frames=3)
    variables = jax.jit(encoder.init)(jax.random.key(0), nested[:2], jnp.zeros(2))
    assert encoder.apply(variables, nested[:2], jnp.zeros(2)).shape == (2, 8)
