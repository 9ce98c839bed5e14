"""TensorBoard's audio tab holds the sound of the validation video."""

import numpy as np

from data_tools.audio.sound import save_wav
from geneface_jax.training.reporting import Summaries
from geneface_jax.training.speech_validation import speech_audio_summary
from geneface_jax.training.stage import Evaluation

RATE = 16000


def tone(seconds):
    """Rises, so that every sample says when it was."""
    return np.linspace(0, 0.9, round(RATE * seconds), dtype=np.float32)


def test_the_sound_of_some_frames(tmp_path):
    save_wav(tmp_path / "audio.wav", tone(2.0))
    samples, rate = speech_audio_summary(tmp_path, 25, 10)["val/speech"]
    assert rate == RATE and len(samples) == RATE * 10 // 25
    np.testing.assert_allclose(samples, tone(2.0)[RATE : RATE + len(samples)], atol=1e-4)
    samples, _ = speech_audio_summary(tmp_path, 45, 100)["val/speech"]
    assert len(samples) == RATE * 5 // 25, "a recording that ends before"


def test_there_may_be_none(tmp_path):
    assert speech_audio_summary(tmp_path, 0, 10) == {}, "a light dataset has no recording"
    save_wav(tmp_path / "audio.wav", tone(0.4))
    assert speech_audio_summary(tmp_path, 0, 0) == {} and speech_audio_summary(tmp_path, 50, 10) == {}


def test_the_event_file_holds_it(tmp_path):
    board = Summaries(tmp_path, 0)
    board.evaluation(1, Evaluation({"val/mse": 1.0}, sounds={"val/speech": (tone(0.2), RATE)}))
    board.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    data = events.read_bytes()
    assert b"val/speech" in data and b"RIFF" in data and b"WAVE" in data
