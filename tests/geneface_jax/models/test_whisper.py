"""Whisper's encoder and its log-mel against transformers' (recorded by record_whisper.py)."""

from pathlib import Path

import jax
import numpy as np
import pytest

from geneface_jax.inference.whisper_features import ENCODER, mel_filters, read_encoder, whisper_folder
from geneface_jax.models.whisper import LOWEST, Whisper, log_mel, sinusoids


@pytest.fixture(scope="module")
def recorded():
    with np.load(Path(__file__).with_name("whisper.npz")) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_every_layer_is_that_of_transformers(recorded):
    states = jax.jit(Whisper().apply)(read_encoder(whisper_folder() / ENCODER), recorded["mel"][None])
    assert len(states) == 3
    for i, state in enumerate(states):
        wanted = recorded[f"state_{i}"]
        assert np.linalg.norm(state[0] - wanted) <= 1e-5 * np.linalg.norm(wanted), i


def test_the_mel_is_that_of_transformers_above_its_floor(recorded):
    """Theirs hears 8 below the loudest value, ours a constant."""
    mel, theirs = np.asarray(log_mel(recorded["pcm"][None] / np.float32(32768), mel_filters())[0]), recorded["whisper_mel"]
    floors = theirs.max() - 2.0, (LOWEST + 4.0) / 4.0
    heard = (theirs > floors[0] + 1e-4) & (mel > floors[1] + 1e-4)
    assert heard.mean() > 0.9
    np.testing.assert_allclose(mel[heard], theirs[heard], atol=1e-4)
    assert mel.min() >= floors[1] - 1e-6


def test_the_mel_does_not_depend_on_louder_sound_elsewhere():
    quiet = np.random.default_rng(0).normal(0.0, 1e-3, 16000).astype(np.float32)
    louder = quiet.copy()
    louder[8000:] *= 500.0
    alone, followed = (np.asarray(log_mel(sound[None], mel_filters())[0]) for sound in (quiet, louder))
    np.testing.assert_allclose(followed[:48], alone[:48], atol=1e-5)
    assert np.ptp(alone[:48]) > 0.1


def test_positions_are_sines_then_cosines():
    positions = sinusoids(7, 6)
    assert positions.shape == (7, 6) and positions.dtype == np.float32
    np.testing.assert_allclose(positions[:, 0], np.sin(np.arange(7)), atol=1e-6)
    np.testing.assert_allclose(positions[:, 5], np.cos(np.arange(7) / 10000.0), atol=1e-6)
