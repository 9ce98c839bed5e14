"""Reports: speech-to-motion evaluation without rendering, figures as tables (rich) and as JSON."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

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

# -------- Evaluation of speech to landmarks without rendering: predicted motion of a person's held-out speech against the true motion

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


# -------- Evaluation report: the same numbers as rich tables and as JSON

WIDTH = 140
"""Columns of a table that is not printed to a terminal; a terminal's own width is used."""

REGIONS = ("face hull", "head", "mouth", "neck band", "frame")


def pixel_table(title: str, methods: Mapping[str, Mapping[str, Mapping[str, float]]], caption: str) -> Table:
    """One row per region with its mean number of pixels, one column per method with PSNR in dB, SSIM and, if measured, LPIPS.

    `methods` is method -> region -> scores, as `scores.PixelScores.summary` gives.
    """
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("region")
    table.add_column("pixels", justify="right")
    for method in methods:
        measured = any("lpips" in figures for figures in methods[method].values())
        table.add_column(f"{method}\ndB  SSIM" + ("  LPIPS" if measured else ""), justify="right")
    for region in REGIONS:
        found = [figures.get(region) for figures in methods.values()]
        if any(found):
            pixels = next(figures["pixels"] for figures in found if figures)
            table.add_row(region, f"{pixels:,.0f}", *(_cell(figures) for figures in found))
    return table


def _cell(figures: Mapping[str, float] | None) -> str:
    if not figures:
        return ""
    lpips = f" {figures['lpips']:.4f}" if "lpips" in figures else ""
    return f"{figures['psnr']:.2f} {figures['ssim']:.3f}{lpips}"


def seam_rows(composite: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """PSNR of the composite in the neck band, where head and torso meet, and of its head."""
    if "neck band" not in composite:
        return {"neck band": "n/a (head and torso do not meet in these frames)"}
    band, head = composite["neck band"]["psnr"], composite["head"]["psnr"]
    return {"composite, 16 px band around the neck (head)": f"{band:.2f} dB ({head:.2f} dB, {band - head:+.2f})"}


def smoothing_rows(summary: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """`scores.smoothing_report` as rows."""

    def words(figures: Mapping[str, float]) -> str:
        return f"{figures['rotation_degrees']:.3f} degrees, {figures['translation_mm']:.2f} mm, {figures['pixels']:.3f} px"

    return {"head pose jitter of the dataset": words(summary["after"]), "the same before smoothing": words(summary["before"])}


def speed_rows(summary: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str]:
    """`scores.frames_per_second` by name, as rows."""
    rows = {}
    for name, figures in summary.items():
        if figures:
            conditions = f"{figures['device']}, {figures['cores']} cores, {figures['frames']} frames"
            rows[f"frames per second, {name}"] = f"{figures['frames_per_second']:.1f} ({conditions})"
    return rows


def sync_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """The sync AUC of `motion.evaluate_motion` as a row."""
    if "sync_auc" not in summary:
        return {"sync AUC": "n/a (name a SyncNet with --syncnet DIR)"}
    return {"sync AUC of the landmarks from audio (truth)": f"{summary['sync_auc']:.3f} ({summary['truth_sync_auc']:.3f})"}


def value_table(title: str, rows: Mapping[str, str], caption: str = "") -> Table:
    """Two columns, name and value, without a header."""
    table = Table(title=title, caption=caption or None, show_header=False, title_justify="left", caption_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def landmark_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """`scores.landmark_summary` as rows."""
    if not summary["frames"]:
        return {"frames with both faces found": "0"}
    return {
        "mouth LMD (MediaPipe on both, nose aligned)": f"{summary['lmd']:.2f} px",
        "mouth opening, correlation at zero lag": f"{summary['mouth_correlation']:.3f}",
        "mouth opening, best correlation": f"{summary['mouth_best_correlation']:.3f} at {summary['mouth_best_lag']:+d} frames",
        "eye openness, correlation at zero lag": f"{summary['eye_correlation']:.3f}",
        "blinks (truth)": f"{summary['blinks']} ({summary['truth_blinks']})",
        "landmark jitter (truth)": f"{summary['jitter']:.2f} px ({summary['truth_jitter']:.2f} px)",
        "frames with both faces found": f"{summary['frames']}",
        "frames without a face": f"{summary['frames_without_face']}",
    }


def envelope_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """`compare.video_against_audio` as rows."""
    return {
        "mouth opening and audio envelope, zero lag": f"{summary['correlation']:.3f}",
        "best lag": f"{summary['best']:.3f} at {summary['best_lag']:+d} frames",
        "control: envelope shuffled in 1 s blocks": f"{summary['shuffled']:.3f} (95 % below {summary['shuffled_95']:.3f})",
        "frames without a face": f"{summary['frames_without_face']} of {summary['frames']}",
    }


def motion_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """`motion.evaluate_motion` as rows."""
    rows = {
        "mouth motion LMD, clip means subtracted": f"{summary['mouth_lmd_mm']:.2f} mm",
        "a mouth that does not move": f"{summary['no_motion_mm']:.2f} mm (ratio {summary['ratio_to_no_motion']:.2f})",
        "mouth opening, correlation at zero lag": f"{summary['mouth_correlation']:.3f}",
        "mouth opening, best correlation": f"{summary['mouth_best_correlation']:.3f} at {summary['mouth_best_lag']:+d} frames",
        "mouth opening, driven by other sound of this voice": f"{summary['other_sound_correlation']:.3f}",
        "mouth opening, amplitude": f"{summary['mouth_amplitude']:.2f} of the truth's",
        "landmark jitter (truth)": f"{summary['jitter_mm']:.3f} mm ({summary['truth_jitter_mm']:.3f} mm)",
    }
    if "sync_auc" in summary:
        rows["sync AUC (truth)"] = f"{summary['sync_auc']:.3f} ({summary['truth_sync_auc']:.3f})"
    return rows


def show(*tables: Table) -> None:
    """Prints tables to standard output."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables:
        console.print(table)


def to_json(value: Any) -> Any:
    """The report with JSON types only: non-finite numbers become null, ranges and paths text."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
