"""State dicts of the original vanilla NeRF in our layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.convert import fields
from geneface_jax.convert.rules import match
from geneface_jax.io import configs
from geneface_jax.models.nerf import NerfHead, NerfTorso

HIDDEN, LAYERS, COLOR = 12, 6, 8


def state_dict(kind):
    """Random weights under the original's names, at a small size with the original's skip."""
    rng = np.random.default_rng(0)
    encoder, attention, inputs, window = ("lm_encoder", "lmatt_encoder", 204, 5) if kind == "head" else ("aud_net", "audatt_net", 29, 8)
    condition = 64 if kind == "head" else 158
    weights = {}

    def layer(name, *shape):
        weights[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)

    for field in ("model_coarse", "model_fine"):
        for i in range(LAYERS):
            layer(f"{field}.density_linears.{i}", HIDDEN, {0: 63 + condition, 5: 63 + condition + HIDDEN}.get(i, HIDDEN))
        layer(f"{field}.density_out_linear", 1, HIDDEN)
        for i in range(2):
            layer(f"{field}.color_linears.{i}", COLOR, COLOR if i else HIDDEN + 27)
        layer(f"{field}.color_out_linear", 3, COLOR)
    for i, (a, b) in enumerate([(inputs, 32), (32, 32), (32, 64), (64, 64)]):
        layer(f"{encoder}.encoder_conv.{2 * i}", b, a, 3)
    for i in range(2):
        layer(f"{encoder}.encoder_fc1.{2 * i}", 64, 64)
    for i, (a, b) in enumerate([(64, 16), (16, 8), (8, 4), (4, 2), (2, 1)]):
        layer(f"{attention}.attentionConvNet.{2 * i}", b, a, 3)
    layer(f"{attention}.attentionNet.0", window, window)
    if kind == "torso":
        for i, (a, b) in enumerate([(3, 16), (16, 32), (32, 16)]):
            layer(f"color_encoder.{2 * i}", b, a)
    return weights


def network_of(kind, weights):
    config = configs.from_file(f"nerf_{kind}:reference").model
    config.update(fields.nerf_sizes(weights))
    network = (NerfHead.from_config if kind == "head" else NerfTorso.from_config)(config)
    window = jnp.zeros((5, 204) if kind == "head" else (8, 16, 29))
    return network, jax.eval_shape(lambda: network.init(jax.random.key(0), window, method="initialize"))


@pytest.mark.parametrize("kind", ["head", "torso"])
def test_sizes_are_read_off_and_every_tensor_has_its_place(kind):
    weights = state_dict(kind)
    assert fields.nerf_sizes(weights)["hidden"] == HIDDEN and fields.nerf_sizes(weights)["layers"] == LAYERS
    network, expected = network_of(kind, weights)
    variables, problems = match(weights, getattr(fields, f"convert_nerf_{kind}"), expected)
    assert problems == []
    found = network.apply(
        variables, jnp.ones((2, 3, 3)), jnp.ones((2, 3)), jnp.ones((1, 64 if kind == "head" else 158)), method="query_fine"
    )
    assert found.shape == (2, 3, 4) and np.isfinite(found).all()


def test_one_layer_by_hand():
    weights = state_dict("head")
    params = fields.convert_nerf_head(weights)["params"]
    np.testing.assert_array_equal(params["fine"]["density_5"]["kernel"], weights["model_fine.density_linears.5.weight"].T)
    np.testing.assert_array_equal(params["frame_encoder"]["conv_0"]["kernel"], weights["lm_encoder.encoder_conv.0.weight"][:, :, 1].T)
    torso = state_dict("torso")
    conv = fields.convert_nerf_torso(torso)["params"]["frame_encoder"]["conv_0"]["kernel"]
    np.testing.assert_array_equal(conv, torso["aud_net.encoder_conv.0.weight"].transpose(2, 1, 0))


def test_what_does_not_fit_is_named():
    weights = state_dict("head")
    _, expected = network_of("head", weights)
    del weights["model_fine.color_out_linear.bias"]
    weights["model_coarse.density_linears.1.weight"] = np.zeros((HIDDEN, HIDDEN + 1), np.float32)
    weights["something.else"] = np.zeros(3, np.float32)
    _, problems = match(weights, fields.convert_nerf_head, expected)
    text = "; ".join(problems)
    assert "something.else is unknown" in text and "params/fine/color_out/bias is missing" in text
    assert "model_coarse.density_linears.1.weight" in text and len(problems) == 3
