"""Evaluation of speech to landmarks without rendering: predicted motion of a person's held-out speech against the true motion."""

from pathlib import Path

import numpy as np

from data_tools.io import read_json
from geneface_jax.data.corpus import MOTION_DIM, Clip
from geneface_jax.data.motion import motion_lmd, mouth_opening, pearson
from geneface_jax.data.speech_batches import NormalizedClip, model_audio, normalize_clip
from geneface_jax.data.subject import Subject, feature_types_of, require_same_features
from geneface_jax.evaluation.metrics import best_lag, jitter
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.speech.losses import SyncExpert, windows_auc
from geneface_jax.typing import Float, Integer

CONTROL_STRETCHES = 20
"""Stretches of the person's own speech from elsewhere in the recording that drive the mouth in the control."""

MIN_SHIFT = 25
"""Smallest shift of such a stretch in frames (1 s): longer than any phoneme."""


def motion_report(
    prediction: Float[np.ndarray, "T 68 3"], truth: Float[np.ndarray, "T 68 3"], mean_face: Float[np.ndarray, "68 3"]
) -> dict[str, float]:
    """Scores of one clip. Motion is 10 x displacement in decimeters; the mean face is in decimeters.

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
    """Predicts motion from the audio of some frames with `SUBJECT/postnet` and compares it with the dataset's motion.

    The network gets the audio of these frames only, without context. The control is predicted from equally long stretches elsewhere in
    the same recording and compared with the same truth: the score of this person's typical mouth motion to other words.

    Args:
      subject_dir: the trained person.
      subject: the dataset that holds audio features and true motion.
      frames: which frames; they should be held out.
      temperature: of the prediction.
      expert: a SyncNet for the sync AUC; None omits it.

    Returns:
      `motion_report`, and `other_sound_correlation`: the mean of `mouth_correlation` over other stretches (nan if the recording is
      shorter than 2 s); with an expert also `sync_auc` of the prediction and `truth_sync_auc`.

    Raises:
      InputError: no trained postnet, or a SyncNet of another face model or feature type.
    """
    speech = AudioToMotion.load(subject_dir / "postnet")
    require_same_features(f"the postnet of {subject_dir}", speech.kind, f"the dataset {subject.folder}", feature_types_of(subject.meta))

    def predict(which: np.ndarray) -> np.ndarray:
        features, f0 = _audio_inputs(subject, which)
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
        negatives = [model_audio(*_audio_inputs(subject, which)) for which in elsewhere]
        for name, motion in (("sync_auc", prediction), ("truth_sync_auc", truth)):
            report[name] = windows_auc(expert, [_expert_pair(expert, subject, frames, motion)], negatives)
    return report


def other_stretches(frames: range, total: int, count: int = CONTROL_STRETCHES) -> list[Integer[np.ndarray, " T"]]:
    """Up to `count` index arrays as long as `frames`, shifted by a second or more, evenly spread over the recording and wrapped around."""
    room = total - 2 * MIN_SHIFT
    if room < 0:
        return []
    shifts = np.unique(np.linspace(MIN_SHIFT, MIN_SHIFT + room, count).astype(int))
    return [(np.array(frames) + shift) % total for shift in shifts]


def find_expert(subject_dir: Path, syncnet: Path | None = None) -> SyncExpert | None:
    """The SyncNet for the sync AUC: the one given, else the one the postnet was trained with, else the shipped one, else None.

    Raises:
      InputError: a SyncNet is given and holds no checkpoint.
    """
    if syncnet is not None:
        return SyncExpert.load(syncnet)
    config = subject_dir / "postnet" / "config.json"
    trained_with = read_json(config)["data"].get("syncnet") if config.is_file() else None
    for folder in filter(None, (trained_with, configs.repository() / "checkpoints" / "avatar" / "syncnet")):
        if checkpoints.steps(folder):
            return SyncExpert.load(folder)
    return None


def _opening(motion: Float[np.ndarray, "T 68 3"], mean_face: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, " T"]:
    return mouth_opening(motion / 10.0 + mean_face)


def _audio_inputs(subject: Subject, which: Integer[np.ndarray, " T"]) -> tuple[Float[np.ndarray, "A C"], Float[np.ndarray, " A"]]:
    """Audio features and f0 of video frames, A = 2T."""
    audio = np.stack([2 * which, 2 * which + 1], axis=1).reshape(-1)
    return subject.audio_features[audio], subject.f0[audio]


def _expert_pair(expert: SyncExpert, subject: Subject, frames: range, motion: Float[np.ndarray, "T 68 3"]) -> NormalizedClip:
    """The frames' audio and a motion, in the SyncNet's input space."""
    features, f0 = _audio_inputs(subject, np.array(frames))
    center = subject.motion_mean.reshape(-1) if expert.center == "speaker" else np.zeros(MOTION_DIM, np.float32)
    clip = Clip(subject.name, subject.name, "val", features, f0, motion.reshape(len(motion), -1))
    return normalize_clip(clip, center, np.asarray(expert.std))
