"""AUC and window scores of embeddings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.syncnet import SyncNet
from geneface_jax.training.speech_losses import SyncExpert, auc, window_scores


def test_auc():
    assert auc([3, 4], [1, 2]) == 1.0 and auc([1, 2], [3, 4]) == 0.0 and auc([1, 1], [1]) == 0.5
    assert np.isnan(auc([], [1]))
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 200), rng.normal(0, 1, 150)
    np.testing.assert_allclose(auc(a, b), np.mean(a[:, None] > b[None, :]))


def test_window_scores_find_the_shift():
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(60, 16))
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    mouth = audio[5:]
    assert window_scores(audio, mouth, 5).min() > 0.999 > window_scores(audio, mouth, 0).max()
    assert len(window_scores(audio[:10], mouth[:10])) == 0


@pytest.fixture(scope="module")
def expert():
    network = SyncNet(4)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 10, 6)), jnp.zeros((1, 5, 60)))
    return SyncExpert(network, variables, np.ones(204, np.float32), "none")


@pytest.mark.parametrize("late", [2, -3])
def test_an_expert_of_a_late_mouth_hears_the_sound_as_much_later(expert, late):
    rng = np.random.default_rng(0)
    audio, motion = rng.normal(size=(2 * 40, 6)).astype(np.float32), rng.normal(size=(40, 204)).astype(np.float32)
    plain = expert.embed(audio, motion)
    first, rest = max(late, 0), max(-late, 0)
    moved = np.concatenate([np.zeros((first, 204), np.float32), motion[rest : 40 - first], np.zeros((rest, 204), np.float32)])
    found = dataclasses.replace(expert, late=late).embed(audio, moved)
    for ours, theirs in zip(found, plain, strict=True):
        assert len(ours) == len(theirs) - abs(late)
        np.testing.assert_allclose(ours, theirs[rest : len(theirs) - first], atol=1e-5)
    batch, keys = (audio[None], motion[None], np.ones(204, np.float32), np.ones((1, 40), np.float32), 8), (jax.random.key(1), jnp.arange(1))
    audible = slice(2 * rest, 80 - 2 * first), slice(first, 40 - rest)
    cut = audio[None, audible[0]], motion[None, audible[1]], batch[2], batch[3][:, audible[1]], 8
    np.testing.assert_allclose(dataclasses.replace(expert, late=late).loss(*keys, *batch), expert.loss(*keys, *cut), rtol=1e-6)
