"""AUC and window scores of embeddings."""

import numpy as np

from geneface_jax.training.speech_losses import auc, window_scores


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
