"""Speech to landmarks, judged without rendering: the predicted motion of a person's held-out speech against the true one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geneface_jax.data.subject import Subject
from geneface_jax.evaluation import landmarks as lm
from geneface_jax.evaluation.sync import best_lag, pearson


def motion_report(prediction: np.ndarray, truth: np.ndarray, mean_face: np.ndarray) -> dict[str, float]:
    """Figures of one clip.

    Args:
      prediction, truth: [T, 68, 3] motion (10 x displacement in decimetres).
      mean_face: [68, 3] decimetres.

    Returns:
      `mouth_lmd_mm` and `no_motion_mm` (see `landmarks.motion_lmd`), `mouth_correlation` at zero lag, `mouth_best_correlation`,
      `mouth_best_lag` (frames, positive = late), `jitter_mm`, `truth_jitter_mm`, `frames`.
    """
    distance, still = lm.motion_lmd(prediction, truth)
    opening, true_opening = (lm.mouth_opening(x / 10.0 + mean_face) for x in (prediction, truth))
    best, lag = best_lag(opening, true_opening)
    return {
        "mouth_lmd_mm": distance,
        "no_motion_mm": still,
        "mouth_correlation": pearson(opening, true_opening),
        "mouth_best_correlation": best,
        "mouth_best_lag": lag,
        "jitter_mm": 10.0 * lm.jitter(prediction),
        "truth_jitter_mm": 10.0 * lm.jitter(truth),
        "frames": len(truth),
    }


def evaluate_motion(subject_dir: Path, subject: Subject, frames: range, temperature: float = 0.0) -> dict[str, float]:
    """Predicts the motion of some frames' audio with `SUBJECT/postnet` and compares it with the dataset's.

    Args:
      subject_dir: the trained person.
      subject: the dataset that holds audio features and true motion.
      frames: which frames; held out, to mean anything.
      temperature: of the prediction.

    Returns:
      see `motion_report`.
    """
    from geneface_jax.inference.motion import AudioToMotion

    audio = slice(2 * frames.start, 2 * frames.stop)
    speech = AudioToMotion.load(subject_dir / "postnet")
    prediction = speech.predict(subject.audio_features[audio], subject.f0[audio], temperature=temperature, seed=0)
    return motion_report(prediction.reshape(-1, 68, 3), subject.motion[frames.start : frames.stop], subject.mean_face)
