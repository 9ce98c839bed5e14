"""How well the sound of a whole clip fits its mouth, by a trained SyncNet: the score `prepare-corpus --syncnet` filters by."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from geneface_jax.data.compatibility import DataKind, require_same
from geneface_jax.data.speech_batches import model_audio
from geneface_jax.io import checkpoints
from geneface_jax.training.sync_expert import SyncExpert, window_scores

WRONG_SHIFTS = (-20, -15, -10, -7, 7, 10, 15, 20)
"""Frames by which the sound is moved for comparison."""


def sync_score(expert: SyncExpert, audio_features: np.ndarray, f0: np.ndarray, motion: np.ndarray) -> float | None:
    """Mean cosine of sound and mouth in place, minus the mean over sound that is moved by 7 to 20 frames.

    Args:
      expert: a SyncNet. One that wants its speaker's mean face taken away gets the clip's own: a speaker's others aren't known here.
      audio_features: [2T, C]. f0: [2T]. motion: [T, 204].

    Returns:
      -1..1, about 0 where sound and mouth have nothing to do with each other; None for a clip too short to move its sound (46 frames).
    """
    center = motion.mean(axis=0) if expert.center == "speaker" else np.zeros(motion.shape[-1], np.float32)
    audio, mouth = expert.embed(model_audio(audio_features, f0), ((motion - center) / np.asarray(expert.std)).astype(np.float32))
    scores = {shift: window_scores(audio, mouth, shift) for shift in (0, *WRONG_SHIFTS)}
    if not all(map(len, scores.values())):
        return None
    return float(scores[0].mean() - np.mean([scores[shift].mean() for shift in WRONG_SHIFTS]))


def sync_scorer(workdir: str | os.PathLike[str], kind: DataKind) -> tuple[str, Callable[[dict[str, np.ndarray]], float | None]]:
    """Reads a SyncNet.

    Args:
      workdir: its work folder.
      kind: of the clips it will be asked about.

    Returns:
      A name that changes with the weights' place and step, and the function from a clip's arrays to its score.

    Raises:
      InputError: there is no checkpoint, or it was trained on landmarks or audio features of another kind.
    """
    expert = SyncExpert.load(workdir)
    require_same(f"the SyncNet {os.fspath(workdir)}", expert.kind, "the corpus to be made", kind)
    name = f"{os.path.abspath(workdir)} step {checkpoints.steps(workdir)[-1]}"
    return name, lambda arrays: sync_score(expert, arrays["audio_features"], arrays["f0"], arrays["motion"])
