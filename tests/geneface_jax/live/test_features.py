"""Features of live speech: short windows by blocks, aligned with those of whole recordings."""

import shutil

import numpy as np
import pytest

from data_tools.audio.sound import HOP, features_for_frames
from data_tools.avatar.speakers import recording
from data_tools.errors import InputError
from geneface_jax.inference.whisper_features import whisper_features, whisper_folder
from geneface_jax.live import features
from geneface_jax.live.features import BLOCK, FUTURE, HOPS, PAST, live_encoder, live_features, recording_features, window_end, window_start

T = 48


@pytest.fixture(scope="module")
def speech():
    return recording("demo_heldout").samples[8000:][: T * 640]


@pytest.fixture(scope="module")
def found(speech):
    return recording_features(speech, T)


def test_a_block_needs_little_sound_after_it(speech, found):
    block = 8
    end = window_end(block)
    assert end == (block + 1) * HOPS * HOP + FUTURE * HOP + HOP // 2 and window_start(0) == -PAST * HOP + HOP // 2
    changed = speech.copy()
    changed[end:] = 0.3
    other = recording_features(changed, T)
    decided = HOPS * (block + 1)
    np.testing.assert_array_equal(other[:decided], found[:decided])
    changed[end - 200 :] = 0.3
    assert np.abs(recording_features(changed, T)[:decided] - found[:decided]).max() > 0.01


def test_they_are_like_those_of_whole_recordings(speech, found):
    """The same directions of the same states, with less sound around them: correlated frame by frame, and at no other shift."""
    offline = whisper_features().compute(speech, T)[0]
    same = {shift: np.corrcoef(np.roll(found, shift, 0)[8:-8].ravel(), offline[8:-8].ravel())[0, 1] for shift in (-2, -1, 0, 1, 2)}
    assert max(same, key=same.get) == 0 and same[0] > 0.8, same


def test_audio_features_of_datasets(speech, found):
    audio = live_features()
    values, f0 = audio.compute(speech, T)
    np.testing.assert_array_equal(values, found)
    np.testing.assert_array_equal(f0, features_for_frames(speech, T)[1])
    assert audio.name == "whisper_live" and audio.weights != whisper_features().weights and audio.windows.frames == BLOCK
    assert recording_features(speech[:0], 0).shape == (0, found.shape[1])
    assert recording_features(speech[: 640 * 7], 7).shape == (14, found.shape[1])


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_damaged_means_are_refused(change, tmp_path, monkeypatch):
    shutil.copytree(whisper_folder(), tmp_path / "whisper")
    path = tmp_path / "whisper" / features.MEANS
    path.unlink()
    if change == "shape":
        np.savez(path, mean=np.zeros((3, 4), np.float32))
    monkeypatch.setattr(features, "whisper_folder", lambda: tmp_path / "whisper")
    live_encoder.cache_clear()
    with pytest.raises(InputError, match=r"live\.npz"):
        live_encoder()
    live_encoder.cache_clear()
