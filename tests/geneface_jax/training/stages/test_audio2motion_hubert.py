"""The speech stages on HuBERT features: they train, say so in their checkpoints, and refuse data and experts of other features."""

import json

import jax
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.data.speech_batches import model_audio, silence
from geneface_jax.data.subject import FeatureTypes, feature_types_of
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.training import devices
from geneface_jax.training.stage import get_stage
from tests.synthetic_corpus import write_corpus
from tests.synthetic_subject import write_subject

CHANNELS = 24
VAE = ["model.condition=8", "model.hidden=8", "model.encoder_layers=1", "model.decoder_layers=1", "model.flow_blocks=1"]
VAE += ["data.batch=4", "data.window=16", "loss.sync_clips=8", "data.augment.enabled=false"]
SYNCNET = ["data.batch=16", "data.eval_clips=32", "model.base=8"]


def to_hubert(path, meta_path):
    """Puts random vectors where the mel was, and says so."""
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal((len(value), CHANNELS)).astype(np.float32) if name.endswith("audio_features") else value
        for name, value in np.load(path).items()
    }
    np.savez(path, **arrays)
    meta = json.loads(meta_path.read_text())
    meta_path.write_text(json.dumps({**meta, "audio_model": "hubert"}))


def save(stage, folder):
    checkpoints.save(folder, 1, jax.device_get(stage.init(jax.random.key(0))), {"config": stage.config, "metrics": {}})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Corpora and persons of both kinds; a SyncNet and a VAE of HuBERT."""
    folder = tmp_path_factory.mktemp("kinds")
    for kind in ("mel_f0", "hubert"):
        write_corpus(folder / kind / "corpus")
        write_subject(folder / kind / "person", frames=88)
    to_hubert(folder / "hubert/corpus/clips.npz", folder / "hubert/corpus/meta.json")
    to_hubert(folder / "hubert/person/arrays.npz", folder / "hubert/person/meta.json")
    save(syncnet(folder, "data.augment.enabled=false"), folder / "hubert/syncnet")
    save(vae(folder), folder / "hubert/audio2motion")
    return folder


def syncnet(folder, *overrides):
    return get_stage(configs.load("syncnet:demo", [f"data.corpus={folder / 'hubert/corpus'}", *SYNCNET, *overrides]))


def vae(folder, corpus="hubert"):
    paths = [f"data.corpus={folder / corpus / 'corpus'}", f"data.syncnet={folder / 'hubert/syncnet'}"]
    return get_stage(configs.load("audio2motion:demo", [*paths, *VAE]))


def postnet(folder, corpus, person):
    paths = [f"data.{name}={folder / 'hubert' / name}" for name in ("syncnet", "audio2motion")]
    paths += [f"data.corpus={folder / corpus / 'corpus'}", f"data.subject={folder / person / 'person'}", "data.augment.enabled=false"]
    sizes = ["data.batch=2", "data.person_batch=2", "data.window=16", "model.base=8", "loss.sync_clips=4"]
    return get_stage(configs.load("postnet:demo", [*paths, *sizes]))


def one_step(stage):
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    return devices.parallel_step(stage.train_step)(state, data, devices.shard(stage.host_batch(0)), jax.random.key(1), 0)


def test_features_of_a_speech_network_are_heard_as_they_are():
    features = np.random.default_rng(0).standard_normal((10, CHANNELS)).astype(np.float32)
    np.testing.assert_array_equal(model_audio(features, np.zeros(10)), features)
    np.testing.assert_array_equal(silence(3, CHANNELS), np.zeros((3, CHANNELS)))


def test_syncnet_trains_on_hubert_and_is_judged_on_voiced_windows(folder):
    stage = syncnet(folder, "data.augment.enabled=false")
    state, metrics = one_step(stage)
    assert np.isfinite(metrics["sync_loss"][0])
    state = jax.device_get(devices.unreplicate(state))
    assert state["params"]["audio_encoder"]["block_0"]["conv"]["kernel"].shape[1] == CHANNELS
    assert 0 <= stage.evaluate(state, stage.data(), 1).scalars["val/auc"] <= 1


def test_sound_that_is_no_mel_is_augmented_by_noise(folder):
    stages = (syncnet(folder, f"data.augment.enabled={enabled}", "data.augment.feature_noise=0.5") for enabled in ("true", "false"))
    noisy, plain = (one_step(stage)[1]["sync_loss"] for stage in stages)
    assert np.isfinite(noisy).all() and not np.array_equal(noisy, plain)


def test_checkpoints_know_what_they_hear(folder):
    for name in ("syncnet", "audio2motion"):
        assert feature_types_of(checkpoints.load(folder / "hubert" / name).config.data) == FeatureTypes(audio_model="hubert")
    save(postnet(folder, "hubert", "hubert"), folder / "hubert/postnet")
    assert AudioToMotion.load(folder / "hubert/postnet").kind == FeatureTypes(audio_model="hubert")
    speech = AudioToMotion.load_corpus_model(folder / "hubert/audio2motion")
    assert speech.kind.audio_model == "hubert"
    assert speech.predict(np.zeros((24, CHANNELS), np.float32), np.zeros(24)).shape == (12, 204)


def test_other_features_are_refused_with_both_named(folder):
    with pytest.raises(InputError, match="SyncNet in .*hubert.*mel_f0"):
        vae(folder, corpus="mel_f0")
    with pytest.raises(InputError, match="audio2motion VAE in .*hubert.*the corpus .*mel_f0"):
        postnet(folder, "mel_f0", "hubert")
    with pytest.raises(InputError, match="audio2motion VAE in .*hubert.*the dataset .*mel_f0"):
        postnet(folder, "hubert", "mel_f0")
