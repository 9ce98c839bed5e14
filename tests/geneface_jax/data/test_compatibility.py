"""Types of landmarks and audio features are recorded, read back and never mixed."""

import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.subject import FeatureTypes, feature_types_of, record_feature_types, require_same_features


def test_a_kind_is_read_from_metadata_and_survives_a_config():
    hubert = feature_types_of({"face_model": "bfm", "audio_model": "hubert", "name": "anna"})
    assert hubert == FeatureTypes("bfm", "hubert")
    config = ConfigDict({"data": {"batch": 4}}).lock()
    record_feature_types(config, hubert)
    assert feature_types_of(config.data) == hubert and config.data.batch == 4
    with pytest.raises(AttributeError):
        config.data.other = 1  # the config is locked again


def test_what_says_nothing_is_of_the_first_kind():
    assert feature_types_of({}) == feature_types_of(ConfigDict({"batch": 4})) == FeatureTypes("mediapipe", "mel_f0")


def test_two_kinds_are_refused_with_both_named():
    require_same_features("the VAE", FeatureTypes(), "the corpus", FeatureTypes())
    with pytest.raises(InputError, match="the VAE has mediapipe .* mel_f0 .*the corpus has mediapipe .* hubert"):
        require_same_features("the VAE", FeatureTypes(), "the corpus", FeatureTypes(audio_model="hubert"))
    with pytest.raises(InputError, match="mediapipe.*bfm"):
        require_same_features("the VAE", FeatureTypes(), "the corpus", FeatureTypes(face_model="bfm"))
