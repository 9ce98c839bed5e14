"""The sync AUC: how well a SyncNet tells a mouth's own sound from other sound. For its validation and for `evaluate --motion`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geneface_jax.data.speech_batches import Pair
from geneface_jax.training.sync_expert import SyncExpert, auc, window_scores

EVAL_SHIFTS = (-25, -15, -8, -5, 5, 8, 15, 25)
"""Frames by which the wrong windows of an evaluation are late."""

VOICED_SHARE = 0.4
"""A window is judged when at least this share of its audio frames is voiced: nobody can tell silence from silence."""


def windows_auc(expert: SyncExpert, pairs: Sequence[Pair], strangers: Sequence[np.ndarray] = ()) -> float:
    """AUC of voiced one-second windows: true ones against shifted audio and against other sound.

    Args:
      expert: a SyncNet.
      pairs: clips in its network space. Each clip's mouth is also shown the sound of the next clip, where there are several.
      strangers: more wrong sound, [2T, C] arrays of model audio.

    Returns:
      0..1, 0.5 = can't tell; NaN when no clip is long enough or voiced.
    """
    true, wrong = [], []
    embeddings = [expert.embed(pair.audio, pair.motion) for pair in pairs]
    other_sound = [expert.embed(audio, np.zeros((len(audio) // 2, 204), np.float32))[0] for audio in strangers]
    for i, (pair, (audio, mouth)) in enumerate(zip(pairs, embeddings, strict=True)):
        voiced = _voiced_windows(pair)
        true.append(_pick(window_scores(audio, mouth), voiced))
        for shift in EVAL_SHIFTS:
            wrong.append(_pick(window_scores(audio, mouth, shift), voiced[max(-shift, 0) :]))
        next_clip = [embeddings[(i + 1) % len(pairs)][0]] if len(pairs) > 1 else []
        for other in (*next_clip, *other_sound):
            wrong.append(_pick(window_scores(other, mouth), voiced))
    return auc(np.concatenate(true), np.concatenate(wrong))


def _voiced_windows(pair: Pair) -> np.ndarray:
    """[T - 24] bool: which one-second windows hold enough voice; none in a clip shorter than a second."""
    if len(pair.voiced) < 50:
        return np.zeros(0, bool)
    share = np.convolve(pair.voiced, np.full(50, 1.0 / 50.0), mode="valid")[::2]
    return share >= VOICED_SHARE


def _pick(scores: np.ndarray, keep: np.ndarray) -> np.ndarray:
    n = min(len(scores), len(keep))
    return scores[:n][keep[:n]]
