"""Importing the originals' speech networks: sizes, everything that can be wrong, and what ends up in the work folder."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.convert import speech
from geneface_jax.convert.rules import write_work_folder
from geneface_jax.convert.torch_checkpoint import number, read_hparams
from geneface_jax.data.subject import FeatureTypes, feature_types_of
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints
from tests.geneface_jax.convert.originals import SMALL_VAE, checkpoint, state_dict


@pytest.fixture(scope="module")
def vae():
    return state_dict(speech.AUDIO2MOTION, 1, **SMALL_VAE)


def imported(value, vae=None):
    return speech.import_speech(value, vae)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_sizes_come_from_the_weights(vae):
    result = imported(checkpoint(model=vae, syncnet_task__model=state_dict(speech.SYNCNET, base=4)))
    assert result.stage == "audio2motion" and result.step == 1000
    assert {name: result.config.model[name] for name in SMALL_VAE} == SMALL_VAE
    assert result.n_parameters == sum(v.size for k, v in vae.items() if "running" not in k and "tracked" not in k)


@pytest.mark.parametrize("heard", [{"pitch": 5}, {"pitch": 12, "blink": True, "mouth_amp": True}, {"pitch": 12, "blink": True}])
def test_pitch_aware_vaes_are_told_by_their_weights(tmp_path, heard):
    weights = state_dict(speech.AUDIO2MOTION, 2, **SMALL_VAE, **heard)
    result = imported(checkpoint(model=weights))
    assert {name: result.config.model[name] for name in heard} == heard and not result.config.model.eye_amp
    assert result.n_parameters == sum(v.size for k, v in weights.items() if "running" not in k and "tracked" not in k)
    write_work_folder(result, tmp_path / "vae")
    speaking = AudioToMotion.load_corpus_model(tmp_path / "vae")
    assert speaking.follows_mouth_amp == ("mouth_amp" in heard) and speaking.amplitudes == {}
    np.testing.assert_array_equal(
        speaking.vae_variables["params"]["voice_encoder"]["pitch_embedding"]["embedding"], weights["pitch_embed.weight"]
    )
    del weights["pitch_encoder.0.weight"]
    with pytest.raises(InputError, match="voice_encoder/pitch_encoder/conv_in/kernel is missing"):
        imported(checkpoint(model=weights))


def test_coefficients_of_another_face_model_are_not_taken_for_landmarks(tmp_path):
    weights = state_dict(speech.AUDIO2MOTION, 3, **SMALL_VAE, motion_dim=64, pitch=12, blink=True)
    write_work_folder(imported(checkpoint(model=weights)), tmp_path / "vae")
    with pytest.raises(InputError, match="64 coefficients of the Basel face model"):
        AudioToMotion.load_corpus_model(tmp_path / "vae")


def test_the_work_folder_is_read_by_our_own_code(tmp_path, vae):
    write_work_folder(imported(checkpoint(40000, model=vae)), tmp_path / "vae")
    read = checkpoints.load(tmp_path / "vae")
    assert read.step == 40000 and "opt_state" not in read.state
    assert feature_types_of(read.config.data) == FeatureTypes("bfm", "hubert") and read.config.data.center == "none"
    np.testing.assert_array_equal(read.state["constants"]["motion_std"], 1.0)
    np.testing.assert_array_equal(read.state["params"]["decoder_up"]["kernel"], vae["vae.decoder.pre_net.0.weight"].transpose(0, 2, 1))
    assert AudioToMotion.load_corpus_model(tmp_path / "vae").vae.latent == SMALL_VAE["latent"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vae"]
    with pytest.raises(InputError, match="exists already"):
        write_work_folder(imported(checkpoint(model=vae)), tmp_path / "vae")


def test_every_wrong_key_is_named_and_nothing_is_imported(vae):
    broken = dict(vae) | {"vae.extra.weight": np.ones((2, 2)), "vae.decoder.out_proj.bias": np.ones(7)}
    del broken["mel_encoder.0.weight"]
    broken["vae.encoder.out_proj.weight"] = broken["vae.encoder.out_proj.weight"][..., 0]
    with pytest.raises(InputError) as caught:
        imported(checkpoint(model=broken))
    message = str(caught.value)
    for part in (
        "vae.extra.weight is unknown",
        "vae.decoder.out_proj.bias is 7",
        "vae.encoder.out_proj.weight is 12x16",
        "params/condition_encoder/conv_in/kernel is missing",
    ):
        assert part in message
    with pytest.raises(InputError, match="1024"):
        imported(checkpoint(model=vae | {"mel_encoder.0.weight": np.ones((12, 80, 3))}))


def test_a_postnet_speaks_with_the_vae_it_carries(tmp_path, vae):
    postnet, critic = state_dict(speech.POSTNET, base=8), state_dict(speech.DISCRIMINATOR, base=8)
    networks = {"model": postnet, "disc_model": critic, "audio2motion_task__model": vae}
    networks |= {"audio2motion_task__syncnet_task__model": {}, "syncnet_task__model": state_dict(speech.SYNCNET, base=4)}
    result = imported(checkpoint(6000, **networks))
    assert result.stage == "postnet" and result.config.syncnet.model.base == 4 and result.config.model.base == 8
    write_work_folder(result, tmp_path / "postnet")
    speaking = AudioToMotion.load(tmp_path / "postnet")
    own = imported(checkpoint(model=vae)).state
    assert same(speaking.vae_variables, {"params": own["params"], "batch_stats": own["batch_stats"]})
    assert speaking.vae.hidden == SMALL_VAE["hidden"] and speaking.postnet is not None
    with pytest.raises(InputError, match="remove --audio2motion"):
        imported(checkpoint(**networks), checkpoints.load(tmp_path / "postnet"))


def test_a_postnet_without_a_vae_says_so_and_takes_another(tmp_path, vae):
    networks = {"model": state_dict(speech.POSTNET, base=8), "disc_model": state_dict(speech.DISCRIMINATOR, base=8)}
    alone = imported(checkpoint(**networks))
    assert any("--audio2motion" in note for note in alone.notes)
    write_work_folder(alone, tmp_path / "alone")
    with pytest.raises(InputError, match="postnet_without_vae"):
        AudioToMotion.load(tmp_path / "alone")
    write_work_folder(imported(checkpoint(model=vae)), tmp_path / "vae")
    whole = imported(checkpoint(**networks), checkpoints.load(tmp_path / "vae"))
    write_work_folder(whole, tmp_path / "whole")
    assert AudioToMotion.load(tmp_path / "whole").vae.condition == SMALL_VAE["condition"]
    foreign = checkpoints.load(tmp_path / "vae")
    foreign.config.data.update(FeatureTypes("mediapipe", "mel_f0")._asdict())
    with pytest.raises(InputError, match=r"bfm.*hubert.*mediapipe.*mel_f0"):
        imported(checkpoint(**networks), foreign)


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="none of which is a supported network"):
        imported(checkpoint(model={"position_embedder.embeddings": np.ones((4, 2))}))


def test_settings_of_the_original_are_kept(tmp_path, vae):
    (tmp_path / "config.yaml").write_text("max_updates: 25_0000\nlr: 1e-4\nlambda_kl: 0.02\nlambda_sync: ''\ninfer_ckpt_steps: 4000\n")
    hparams = read_hparams(tmp_path / "config.yaml")
    assert hparams["lr"] == "1e-4" and number(hparams, "lr") == 1e-4 and number(hparams, "lambda_sync") is None
    result = imported(checkpoint(model=vae, hparams=hparams))
    assert (result.config.train.steps, result.config.optimizer.lr, result.config.loss.kl) == (250000, 1e-4, 0.02)
    assert any("4000" in note for note in result.notes)
    (tmp_path / "config.yaml").write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="not a config in YAML"):
        read_hparams(tmp_path / "config.yaml")
