"""Model folders as transformers saves them -> our HuBERT; folders that are something else are refused with names."""

import jax
import numpy as np
import pytest
from hubert_folder import VARIANTS, recorded, write_hubert

from data_tools.errors import InputError
from geneface_jax.convert.pretrained import convert_hubert, hubert_from_config, load_hubert

POSITION = "encoder.pos_conv_embed.conv."


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_gives_the_recorded_features(tmp_path, variant):
    record = recorded(variant)
    module, variables = load_hubert(write_hubert(tmp_path, variant))
    np.testing.assert_allclose(jax.jit(module.apply)(variables, record.samples[None])[0], record.hidden, atol=2e-5)


def test_both_spellings_of_the_weight_norm_are_one():
    new = recorded("large").weights
    spelling = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    old = dict(new)
    for long, short in spelling.items():
        old[POSITION + short] = old.pop(POSITION + long)
    jax.tree.map(np.testing.assert_array_equal, convert_hubert(new), convert_hubert(old))


def test_a_speech_recognizer_is_read_without_its_head(tmp_path):
    weights = {f"hubert.{name}": value for name, value in recorded("large").weights.items()}
    weights |= {"lm_head.weight": np.zeros((32, 32), np.float32), "lm_head.bias": np.zeros(32, np.float32)}
    _, variables = load_hubert(write_hubert(tmp_path, weights=weights))
    jax.tree.map(np.testing.assert_array_equal, variables, convert_hubert(recorded("large").weights))


def test_all_missing_unknown_and_misshaped_weights_are_named(tmp_path):
    weights = dict(recorded("large").weights)
    del weights["encoder.layers.1.attention.q_proj.weight"]
    weights["feature_projection.projection.weight"] = weights["feature_projection.projection.weight"][:, :-1]
    with pytest.raises(InputError, match="projection/kernel is .*") as caught:
        load_hubert(write_hubert(tmp_path / "a", weights=weights))
    assert "layer_1/attention/query/kernel is missing" in str(caught.value)
    with pytest.raises(InputError, match="encoder.layers.0.adapter_layer.norm.bias"):
        convert_hubert({**weights, "encoder.layers.0.adapter_layer.norm.bias": np.zeros(4)})
    # A smaller config than the weights: what is left over is named.
    with pytest.raises(InputError, match="layer_1/.* is not part of this model"):
        load_hubert(write_hubert(tmp_path / "b", num_hidden_layers=1))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "wav2vec2"}, "model_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"conv_dim": []}, "conv_dim"),
        ({"conv_kernel": [10, 3]}, "sizes"),
        ({"num_attention_heads": 5}, "sizes"),
        ({"feat_extract_norm": "batch"}, "sizes"),
    ],
)
def test_configs_of_other_networks_are_refused(tmp_path, change, named):
    with pytest.raises(InputError, match=named):
        load_hubert(write_hubert(tmp_path, **change))


def test_fields_that_are_absent_have_transformers_defaults():
    module = hubert_from_config({"model_type": "hubert"})
    assert (module.width, module.layers, module.conv_norm, module.norm_first, module.conv_bias) == (768, 12, "group", False, False)


def test_folders_without_their_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="config.json"):
        load_hubert(tmp_path)
    folder = write_hubert(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.safetensors or pytorch_model.bin"):
        load_hubert(folder)


def test_without_pytorch_a_bin_file_is_refused_with_the_way_out(tmp_path, monkeypatch):
    folder = write_hubert(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(InputError, match=r"PyTorch: `pip install geneface_jax\[import\]`"):
        load_hubert(folder)


def test_a_bin_file_is_read_and_a_hostile_one_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    folder = write_hubert(tmp_path)
    expected = load_hubert(folder)[1]
    (folder / "model.safetensors").unlink()
    torch.save({name: torch.from_numpy(value) for name, value in recorded("large").weights.items()}, folder / "pytorch_model.bin")
    jax.tree.map(np.testing.assert_array_equal, load_hubert(folder)[1], expected)

    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "trace"), "w")

    torch.save({"weight": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin"):
        load_hubert(folder)
    assert not (tmp_path / "trace").exists()
