"""HuBERT equals transformers' HubertModel: on recorded numbers everywhere, and on fresh random weights where transformers is installed."""

import jax
import numpy as np
import pytest
from hubert_folder import VARIANTS, recorded

from geneface_jax.convert.pretrained import convert_hubert, hubert_from_config
from geneface_jax.models.hubert import Hubert, conv_lengths, hop, receptive_field


@pytest.fixture(params=VARIANTS)
def record(request):
    return recorded(request.param)


def test_equals_the_recorded_transformers_output(record):
    module = hubert_from_config(record.config)
    hidden = jax.jit(module.apply)(convert_hubert(record.weights), record.samples[None])[0]
    assert np.abs(hidden - record.hidden).max() < 2e-5 and np.abs(record.hidden).max() > 1.0


def test_padding_behind_the_sound_changes_nothing(record):
    module, variables = hubert_from_config(record.config), convert_hubert(record.weights)
    length = 3300
    apply = jax.jit(module.apply)
    alone = apply(variables, record.samples[None, :length])
    for filler in (0.0, 3.0, -50.0):
        padded = np.full((1, 4000), filler, np.float32)
        padded[0, :length] = record.samples[:length]
        hidden = apply(variables, padded, np.array([length]))
        np.testing.assert_allclose(hidden[:, : alone.shape[1]], alone, atol=2e-5)
        assert np.abs(apply(variables, padded)[:, : alone.shape[1]] - alone).max() > 1e-2  # without the length, padding leaks in


def test_items_of_a_batch_do_not_see_each_other(record):
    module, variables = hubert_from_config(record.config), convert_hubert(record.weights)
    other = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    both = jax.jit(module.apply)(variables, np.stack([record.samples, other]), np.array([4000, 2500]))
    np.testing.assert_allclose(both[0], record.hidden, atol=2e-5)


def test_frames_see_400_samples_and_come_every_320():
    module = Hubert()
    assert (receptive_field(module.conv_kernels, module.conv_strides), hop(module.conv_strides)) == (400, 320)
    for samples in (400, 719, 720, 16000, 320080):
        assert conv_lengths(samples, module.conv_kernels, module.conv_strides)[-1] == (samples - 80) // 320


def test_the_large_model_has_the_published_number_of_parameters():
    shapes = jax.eval_shape(Hubert().init, jax.random.key(0), np.zeros((1, 400), np.float32))
    # 315,438,720 of transformers' count are these and the mask embedding of 1024, which only training uses.
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 315_438_720 - 1024


@pytest.mark.parametrize(
    "variant",
    [
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
        {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False},
        {"feat_extract_norm": "group", "num_conv_pos_embeddings": 7, "feat_proj_layer_norm": False, "layer_norm_eps": 1e-3},
    ],
    ids=["large", "base", "odd"],
)
def test_equals_transformers_on_random_weights(variant):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 80, "conv_dim": [24] * 7}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    model = transformers.HubertModel(transformers.HubertConfig(**{**sizes, **positions, **variant})).eval()
    samples = torch.randn(2, 5000)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        expected = model(samples).last_hidden_state.numpy()
    variables = convert_hubert({name: value.numpy() for name, value in model.state_dict().items()})
    hidden = hubert_from_config(model.config.to_dict()).apply(variables, samples.numpy())
    np.testing.assert_allclose(hidden, expected, atol=2e-5)
