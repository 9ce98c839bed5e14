"""Random windows out of clips: the batches of the speech-to-motion stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geneface_jax.data.model_audio import model_audio, silence
from geneface_jax.data.network_space import Pair

__all__ = ["cut", "model_audio", "sample_windows"]


def sample_windows(rng: np.random.Generator, pairs: Sequence[Pair], batch: int, window: int) -> dict[str, np.ndarray]:
    """Draws windows of `window` video frames, every possible start of every clip equally likely; short clips are padded at their end.

    Returns:
      audio [batch, 2 * window, C], motion [batch, window, 204] (zero where padded), mask [batch, window] of 0/1, f0 [batch, 2 * window] Hz
      and the clips' mouth_amp, eye_amp [batch], float32; blink [batch, window] int32. See `Pair`.
    """
    starts = np.array([max(pair.n_frames - window + 1, 1) for pair in pairs])
    which = rng.choice(len(pairs), size=batch, p=starts / starts.sum())
    items = [cut(pairs[i], int(rng.integers(starts[i])), window) for i in which]
    return {key: np.stack([item[key] for item in items]) for key in items[0]}


def cut(pair: Pair, start: int, window: int) -> dict[str, np.ndarray]:
    """One window of a pair as in `sample_windows`, without the batch axis; frames beyond the end are padding."""
    motion, audio = pair.motion[start : start + window], pair.audio[2 * start : 2 * (start + window)]
    missing = window - len(motion)
    mask = np.ones(window, np.float32)
    if missing:
        mask[len(motion) :] = 0.0
        motion = np.concatenate([motion, np.zeros((missing, motion.shape[-1]), np.float32)])
        audio = np.concatenate([audio, silence(2 * window - len(audio), audio.shape[-1])])
    face = pair.behaviour
    return {
        "audio": audio,
        "motion": motion,
        "mask": mask,
        "f0": _filled(pair.f0[2 * start :], 2 * window),
        "blink": _filled(face.blink[start:], window),
        "mouth_amp": np.asarray(face.mouth_amp, np.float32),
        "eye_amp": np.asarray(face.eye_amp, np.float32),
    }


def _filled(values: np.ndarray, length: int) -> np.ndarray:
    """The first `length` values, zeros after the last."""
    values = values[:length]
    return np.pad(values, (0, length - len(values)))
