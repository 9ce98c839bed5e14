"""The sync AUC with an expert whose embeddings are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from geneface_jax.training.speech_losses import windows_auc


class Listener:
    """Hears a direction in the sound and sees one in the mouth: [T, 4] unit vectors, hidden in the first channels of each."""

    def embed(self, audio, motion):
        def unit(x):
            return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)

        return unit(audio[::2, :4])[:-4], unit(motion[:, :4])[:-4]


def pair(seed, frames=80, voiced=True, deaf=False):
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(frames, 4)).astype(np.float32)
    motion = np.zeros((frames, 204), np.float32)
    motion[:, :4] = rng.normal(size=(frames, 4)) if deaf else said
    audio = np.zeros((2 * frames, 82), np.float32)
    audio[:, :4] = np.repeat(said, 2, axis=0)
    return SimpleNamespace(audio=audio, motion=motion, voiced=np.full(2 * frames, voiced))


def test_a_mouth_in_sync_is_told_from_all_other_sound():
    assert windows_auc(Listener(), [pair(0)]) == 1.0
    assert windows_auc(Listener(), [pair(0), pair(1)]) == 1.0
    assert windows_auc(Listener(), [pair(0)], [pair(2).audio]) == 1.0


def test_a_mouth_of_its_own_is_not():
    assert 0.2 < windows_auc(Listener(), [pair(seed, deaf=True) for seed in range(6)]) < 0.8


def test_the_sound_of_a_stranger_counts_as_wrong():
    # A stranger who says the very same is as much in sync: half of the comparisons with him are ties.
    mine = pair(0)
    assert windows_auc(Listener(), [mine], [mine.audio] * 100) == pytest.approx(0.5, abs=0.05)


def test_silence_and_short_clips_are_not_judged():
    assert np.isnan(windows_auc(Listener(), [pair(0, voiced=False)]))
    assert np.isnan(windows_auc(Listener(), [pair(0, frames=18)]))
