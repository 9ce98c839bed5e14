"""Speech to landmarks, judged without rendering: the predicted motion of a person's held-out speech against the true one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.io import read_json
from geneface_jax.data.compatibility import feature_types_of, require_same_features
from geneface_jax.data.corpus import MOTION_DIM, Clip
from geneface_jax.data.motion import motion_lmd, mouth_opening, pearson
from geneface_jax.data.speech_batches import NormalizedClip, model_audio, normalize_clip
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.metrics import best_lag, jitter
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.speech.sync import SyncExpert, windows_auc

OTHER_SOUNDS = 20
"""Stretches of the person's own speech from elsewhere that the control drives the mouth with."""

MIN_DISTANCE = 25
"""Frames (1 s) by which such a stretch is moved at least: longer than any sound."""


def motion_report(prediction: np.ndarray, truth: np.ndarray, mean_face: np.ndarray) -> dict[str, float]:
    """Figures of one clip.

    Args:
      prediction, truth: [T, 68, 3] motion (10 x displacement in decimetres).
      mean_face: [68, 3] decimetres.

    Returns:
      `mouth_lmd_mm`, that of a mouth that does not move (`no_motion_mm`), and their ratio (`ratio_to_no_motion`), all after subtracting
      each clip's mean; `mouth_correlation` of the opening at zero lag, `mouth_best_correlation`, `mouth_best_lag` (frames, positive =
      late); `mouth_amplitude` (deviation of the opening over the truth's); `jitter_mm`, `truth_jitter_mm`, `frames`.
    """
    # One unit of motion is 10 mm.
    distance, still = (10.0 * motion_lmd(x, truth) for x in (prediction, np.zeros_like(truth)))
    opening, true_opening = (_opening(x, mean_face) for x in (prediction, truth))
    best, lag = best_lag(opening, true_opening)
    return {
        "mouth_lmd_mm": distance,
        "no_motion_mm": still,
        "ratio_to_no_motion": distance / still if still > 0 else float("nan"),
        "mouth_correlation": pearson(opening, true_opening),
        "mouth_best_correlation": best,
        "mouth_best_lag": lag,
        "mouth_amplitude": float(opening.std() / true_opening.std()) if true_opening.std() > 1e-6 else float("nan"),
        "jitter_mm": 10.0 * jitter(prediction),
        "truth_jitter_mm": 10.0 * jitter(truth),
        "frames": len(truth),
    }


def evaluate_motion(
    subject_dir: Path, subject: Subject, frames: range, *, temperature: float = 0.0, expert: SyncExpert | None = None
) -> dict[str, float]:
    """Predicts the motion of some frames' audio with `SUBJECT/postnet` and compares it with the dataset's.

    The network hears these frames' sound and nothing before or after it. The control hears as long a stretch of the same recording from
    somewhere else and is compared with the same truth: what a mouth scores that moves like this person's, but to other words.

    Args:
      subject_dir: the trained person.
      subject: the dataset that holds audio features and true motion.
      frames: which frames; held out, to mean anything.
      temperature: of the prediction.
      expert: a SyncNet for the sync AUC; None leaves it out.

    Returns:
      `motion_report`, and `other_sound_correlation`: the mean of `mouth_correlation` over other stretches (nan where the recording is
      shorter than 2 s); with an expert also `sync_auc` of the prediction and `truth_sync_auc`.

    Raises:
      InputError: no trained postnet, or a SyncNet of another face model or feature type.
    """
    speech = AudioToMotion.load(subject_dir / "postnet")
    require_same_features(f"the postnet of {subject_dir}", speech.kind, f"the dataset {subject.folder}", feature_types_of(subject.meta))

    def predict(which: np.ndarray) -> np.ndarray:
        features, f0 = _sound(subject, which)
        return speech.predict(features, f0, temperature=temperature, seed=0).reshape(-1, 68, 3)

    truth = subject.motion[frames.start : frames.stop]
    prediction = predict(np.array(frames))
    report = motion_report(prediction, truth, subject.mean_face)
    opening = _opening(truth, subject.mean_face)
    elsewhere = other_stretches(frames, subject.n_frames)
    control = [pearson(_opening(predict(which), subject.mean_face), opening) for which in elsewhere]
    report["other_sound_correlation"] = float(np.mean(control)) if control else float("nan")
    if expert is not None:
        require_same_features("the SyncNet", expert.kind, f"the dataset {subject.folder}", feature_types_of(subject.meta))
        strangers = [model_audio(*_sound(subject, which)) for which in elsewhere]
        for name, motion in (("sync_auc", prediction), ("truth_sync_auc", truth)):
            report[name] = windows_auc(expert, [_expert_pair(expert, subject, frames, motion)], strangers)
    return report


def other_stretches(frames: range, total: int, count: int = OTHER_SOUNDS) -> list[np.ndarray]:
    """Up to `count` index arrays as long as `frames`, spread evenly over the recording, each moved by a second or more.

    A stretch that runs over the end goes on at the beginning.
    """
    room = total - 2 * MIN_DISTANCE
    if room < 0:
        return []
    shifts = np.unique(np.linspace(MIN_DISTANCE, MIN_DISTANCE + room, count).astype(int))
    return [(np.array(frames) + shift) % total for shift in shifts]


def find_expert(subject_dir: Path, syncnet: Path | None = None) -> SyncExpert | None:
    """The SyncNet to judge with: the one named, else the one the postnet was trained with, else the shipped one; None if none is there.

    Raises:
      InputError: a SyncNet is named and holds no checkpoint.
    """
    if syncnet is not None:
        return SyncExpert.load(syncnet)
    config = subject_dir / "postnet" / "config.json"
    trained_with = read_json(config)["data"].get("syncnet") if config.is_file() else None
    for folder in filter(None, (trained_with, configs.repository() / "checkpoints" / "avatar" / "syncnet")):
        if checkpoints.steps(folder):
            return SyncExpert.load(folder)
    return None


def _opening(motion: np.ndarray, mean_face: np.ndarray) -> np.ndarray:
    return mouth_opening(motion / 10.0 + mean_face)


def _sound(subject: Subject, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Audio features [2T, C] and f0 [2T] of video frames."""
    audio = np.stack([2 * which, 2 * which + 1], axis=1).reshape(-1)
    return subject.audio_features[audio], subject.f0[audio]


def _expert_pair(expert: SyncExpert, subject: Subject, frames: range, motion: np.ndarray) -> NormalizedClip:
    features, f0 = _sound(subject, np.array(frames))
    center = subject.motion_mean.reshape(-1) if expert.center == "speaker" else np.zeros(MOTION_DIM, np.float32)
    clip = Clip(subject.name, subject.name, "val", features, f0, motion.reshape(len(motion), -1))
    return normalize_clip(clip, center, np.asarray(expert.std))
