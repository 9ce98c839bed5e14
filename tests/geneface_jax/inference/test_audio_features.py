"""Audio features by name, and where HuBERT's weights are looked for."""

import argparse

import numpy as np
import pytest
from hubert_folder import write_hubert

from data_tools.audio.sound import MEL_F0, features_for_frames
from data_tools.command_line import add_features_arguments
from data_tools.dataset.arrays import make_arrays
from data_tools.errors import InputError
from data_tools.face.pose import HeadPose
from data_tools.landmarks68 import RIGID
from geneface_jax.cli import main as cli
from geneface_jax.cli.prepare import chosen_features
from geneface_jax.inference.audio_features import HUBERT_VARIABLE, audio_features, audio_features_of, hubert_folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(HUBERT_VARIABLE, raising=False)
    return tmp_path


def test_mel_f0_needs_nothing(home):
    assert audio_features("mel_f0") is MEL_F0 and MEL_F0.recipe == "mel_f0"


def test_hubert_comes_with_f0_and_a_fingerprint(home):
    features = audio_features("hubert", write_hubert(home / "model"))
    samples = np.sin(2 * np.pi * 150 / 16000 * np.arange(8000)).astype(np.float32)
    hidden, f0 = features.compute(samples, 12)
    assert hidden.shape == (24, 32) and hidden.dtype == np.float32
    np.testing.assert_array_equal(f0, features_for_frames(samples, 12)[1])
    assert features.recipe == f"hubert:{features.weights}" and features.name == "hubert"
    # Another model is another recipe.
    assert audio_features("hubert", write_hubert(home / "base", "base")).recipe != features.recipe


def test_the_folder_is_the_argument_or_the_variable_or_the_cache(home, monkeypatch):
    cache, named, given = (write_hubert(home / name) for name in (".cache/geneface_jax/hubert", "named", "given"))
    assert hubert_folder() == cache
    monkeypatch.setenv(HUBERT_VARIABLE, str(named))
    assert hubert_folder() == named
    assert hubert_folder(given) == given


def test_a_missing_model_says_where_to_get_one(home, monkeypatch):
    for folder in (None, home / "wrong"):
        with pytest.raises(InputError, match=f"facebook/hubert-large-ls960-ft.*license.*{HUBERT_VARIABLE}.*mel_f0"):
            audio_features("hubert", folder)
    monkeypatch.setenv(HUBERT_VARIABLE, str(home / "elsewhere"))
    write_hubert(home / ".cache/geneface_jax/hubert")
    with pytest.raises(InputError, match="elsewhere"):  # a folder that was named is not silently replaced
        hubert_folder()


def test_unknown_features_are_refused():
    with pytest.raises(InputError, match="'wav2vec2'.*mel_f0, hubert or whisper"):
        audio_features("wav2vec2")


def test_a_dataset_of_other_weights_is_refused_with_both_named(home, monkeypatch):
    monkeypatch.setenv(HUBERT_VARIABLE, str(write_hubert(home / "model")))
    features = audio_features("hubert")
    meta = {"audio_model": "hubert", "audio_weights": features.weights}
    assert audio_features_of(meta, "the dataset") is features
    with pytest.raises(InputError, match=f"HuBERT weights of the dataset D are 0123456789abcdef, .* {features.weights}"):
        audio_features_of({**meta, "audio_weights": "0123456789abcdef"}, "the dataset D")


def test_a_dataset_is_made_with_the_features_it_is_given(home):
    samples = np.sin(2 * np.pi * 150 / 16000 * np.arange(12 * 640)).astype(np.float32)
    features = audio_features("hubert", write_hubert(home / "model"))
    rotation, translation = np.tile(np.eye(3), (12, 1, 1)), np.tile([0.0, 0.0, -13.0], (12, 1))
    pose = HeadPose(rotation, translation, np.zeros((len(RIGID), 3)), np.ones(len(RIGID)), rotation, translation, np.zeros(12))
    landmarks = np.random.default_rng(0).uniform(0, 64, (12, 478, 3)).astype(np.float32)
    arrays = make_arrays(landmarks, np.ones(12, bool), pose, samples, 64, features)
    np.testing.assert_array_equal(arrays["audio_features"], features.compute(samples, 12)[0])
    np.testing.assert_array_equal(arrays["f0"], features_for_frames(samples, 12)[1])


def test_the_command_line_names_the_features(home, capsys):
    parser = argparse.ArgumentParser()
    add_features_arguments(parser)
    folder = str(write_hubert(home / "model"))
    assert chosen_features(parser.parse_args([])).name == "whisper"
    assert chosen_features(parser.parse_args(["--features", "mel_f0"])) is MEL_F0
    assert chosen_features(parser.parse_args(["--features", "hubert", "--hubert", folder])).name == "hubert"
    with pytest.raises(InputError, match="--hubert is given with --features whisper"):
        chosen_features(parser.parse_args(["--hubert", folder]))
    assert cli.main(["prepare", "video.mp4", "--out", str(home / "person"), "--features", "hubert"]) == 2
    assert "facebook/hubert-large-ls960-ft" in capsys.readouterr().err
