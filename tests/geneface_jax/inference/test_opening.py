"""The linear map from sound to the mouth's opening: what it learns, its file, and what the data tools get of it."""

import pickle

import numpy as np
import pytest

from data_tools.audio.sound import features_for_frames
from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import excerpt, recording
from data_tools.errors import InputError
from data_tools.landmarks68 import landmarks_from_motion
from geneface_jax.data.motion import mouth_opening, pearson
from geneface_jax.inference import opening as module
from geneface_jax.inference.opening import RADIUS, OpeningMap, fit_opening_map, opening_predictor


def rows(speaker: str, seconds: float = 16.0):
    clip = excerpt(recording(speaker), 0.0, seconds)
    opening = mouth_opening(landmarks_from_motion(perform(clip).motion.reshape(-1, 204)))
    return features_for_frames(clip.samples, clip.n_frames)[0], (opening - opening.mean()) / opening.std(), 1.0


@pytest.fixture(scope="module")
def fitted() -> OpeningMap:
    return fit_opening_map([rows("anna"), rows("bruno"), rows("karl")], "mel_f0", "abc")


def test_it_predicts_a_speaker_whom_it_never_heard(fitted):
    features, opening, _ = rows("demo")
    assert pearson(fitted.predict(features), opening) > 0.5
    assert abs(pearson(fitted.predict(features[::-1]), opening)) < 0.3


def test_it_sees_four_frames_to_each_side_and_no_more(fitted):
    features = np.zeros((40, 80), np.float32)
    changed = features.copy()
    changed[20] = 5.0  # video frame 10
    touched = np.flatnonzero(fitted.predict(changed) != fitted.predict(features))
    assert (touched.min(), touched.max()) == (10 - RADIUS, 10 + RADIUS)


def test_a_frame_of_more_weight_counts_more():
    features, opening, _ = rows("anna", 6.0)
    both = [fit_opening_map([(features, opening, 1.0), (features, -opening, weight)], "mel_f0") for weight in (0.1, 10.0)]
    assert pearson(both[0].predict(features), opening) > 0.5 > -0.5 > pearson(both[1].predict(features), opening)


def test_its_file_gives_the_same_map_and_the_same_bytes(fitted, tmp_path):
    for name in ("a.npz", "b.npz"):
        fitted.save(tmp_path / name)
    loaded = OpeningMap.load(tmp_path / "a.npz")
    assert (loaded.audio_model, loaded.audio_weights) == ("mel_f0", "abc")
    np.testing.assert_array_equal(loaded.weights, fitted.weights)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (tmp_path / "a.npz").stat().st_size < 20_000


def test_wrong_features_and_files_are_refused_in_a_sentence(fitted, tmp_path):
    with pytest.raises(InputError, match="There are 160 audio features a frame, but the map of the opening has 80: make it again"):
        fitted.predict(np.zeros((20, 160), np.float32))
    with pytest.raises(InputError, match="opening.npz: make it again with"):
        OpeningMap.load(tmp_path / "opening.npz")
    np.savez(tmp_path / "bad.npz", weights=np.zeros((3, 4)), mean=np.zeros(4), std=np.ones(4), audio_model="x", audio_weights="")
    with pytest.raises(InputError, match="has weights of shape"):
        OpeningMap.load(tmp_path / "bad.npz")


def test_the_data_tools_get_a_function_that_workers_can_load(fitted, tmp_path, monkeypatch):
    fitted.save(tmp_path / "opening.npz")
    monkeypatch.setattr(module, "shipped_map", lambda: tmp_path / "opening.npz")
    predictor = opening_predictor()
    assert pickle.loads(pickle.dumps(predictor)) == predictor and predictor.recipe.startswith("mel_f0:abc:")
    samples = excerpt(recording("demo"), 0.0, 4.0).samples
    np.testing.assert_allclose(predictor.predict(samples, 100), fitted.predict(features_for_frames(samples, 100)[0]), atol=1e-5)


def test_without_the_folder_only_a_note_is_made(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "shipped_map", lambda: tmp_path / "opening.npz")
    assert opening_predictor(needed=False) is None and "is not looked for" in caplog.text
    with pytest.raises(InputError, match="is not in"):
        opening_predictor()
