"""The mouth in silence: nobody speaks, so it rests. GeneFace offers this in its vanilla NeRF's inference, GeneFace++ not at all.

There the mouth jumps to one frame that the user names wherever the sound's RMS is below 1e-5, which no real recording reaches. Here
silence is measured against the recording's own loud frames, the rest is the person's own shut mouth, and ramps lead there and back.
"""

from __future__ import annotations

import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE
from geneface_jax.inference.regions import MOUTH

DIGITAL_SILENCE = -100.0
"""dB below full scale (an RMS of 1e-5): silent in any recording."""

LOUD_PERCENTILE = 95.0
"""Of a recording's frames: how loud its speech is."""

RAMP = 4
"""Frames over which the mouth goes to rest and comes back (0.16 s)."""

_SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
_INNER_LIPS = ((61, 67), (62, 66), (63, 65))


def loudness(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """[n_frames] float32: RMS level of every video frame in dB, 0 for a full-scale square wave, -120 for digital silence.

    Args:
      samples: [n] mono sound at 16 kHz in -1..1; padded with zeros, or cut, to n_frames.
      n_frames: at least 1.
    """
    padded = np.zeros(n_frames * _SAMPLES_PER_FRAME, np.float64)
    sound = np.asarray(samples)[: len(padded)]
    padded[: len(sound)] = sound
    power = np.mean(padded.reshape(n_frames, _SAMPLES_PER_FRAME) ** 2, axis=1)
    return (10.0 * np.log10(power + 1e-12)).astype(np.float32)


def silence_weight(level: np.ndarray, below_db: float = 40.0, ramp: int = RAMP) -> np.ndarray:
    """[T] float32: 1 inside a pause, 0 in speech, and ramps that lie within the pause, so that no sound loses its mouth.

    Args:
      level: [T] dB (`loudness`).
      below_db: a frame is silent when it is this much quieter than the recording's loud frames, or below -100 dB.
      ramp: frames, >= 1.
    """
    silent = level < max(float(np.percentile(level, LOUD_PERCENTILE)) - below_db, DIGITAL_SILENCE)
    return np.minimum(_ramp_up(silent, ramp), _ramp_up(silent[::-1], ramp)[::-1])


def _ramp_up(silent: np.ndarray, ramp: int) -> np.ndarray:
    weight = np.zeros(len(silent), np.float32)
    run = 0
    for t, quiet in enumerate(silent):
        run = run + 1 if quiet else 0
        weight[t] = min(run / ramp, 1.0)
    return weight


def close_mouth_in_silence(motion: np.ndarray, weight: np.ndarray, closed_mouth: np.ndarray) -> np.ndarray:
    """Brings the mouth points to rest where nobody speaks.

    Args:
      motion: [T, 204]. weight: [T] 0..1, how much of the rest each frame takes (`silence_weight`).
      closed_mouth: [204], the person with a shut mouth; only its mouth points are used (`most_closed_mouth`).

    Returns:
      [T, 204] float32.
    """
    result = motion.reshape(-1, 68, 3).astype(np.float32)
    rest = np.asarray(closed_mouth, np.float32).reshape(68, 3)[MOUTH]
    result[:, MOUTH] += np.asarray(weight, np.float32)[:, None, None] * (rest - result[:, MOUTH])
    return result.reshape(len(motion), -1)


def most_closed_mouth(motion: np.ndarray, mean_face: np.ndarray) -> np.ndarray:
    """[204]: the mean of the 5 % of frames of a person's motion [T, 204] whose inner lips are closest together."""
    points = motion.reshape(-1, 68, 3) / 10.0 + np.asarray(mean_face).reshape(68, 3)
    gap = np.mean([np.linalg.norm(points[:, up] - points[:, low], axis=-1) for up, low in _INNER_LIPS], axis=0)
    count = max(1, len(motion) // 20)
    return motion[np.argsort(gap, kind="stable")[:count]].mean(axis=0).astype(np.float32)
