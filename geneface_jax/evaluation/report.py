"""Reports: speech-to-motion evaluation without rendering, figures as tables (rich) and as JSON."""

import argparse
import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_tools.errors import InputError
from data_tools.io import read_json
from data_tools.video import VideoWriter
from geneface_jax.data.corpus import MOTION_DIM, Clip
from geneface_jax.data.motion import motion_lmd, mouth_opening, pearson
from geneface_jax.data.speech_batches import NormalizedClip, model_audio, normalize_clip
from geneface_jax.data.subject import Subject, feature_types_of, require_same_features
from geneface_jax.evaluation import heldout, scores
from geneface_jax.evaluation.metrics import LPIPS_UNAVAILABLE, Perceptual, best_lag, difference, jitter
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.speech_losses import SyncExpert, windows_auc
from geneface_jax.typing import Float, Integer

logger = logging.getLogger(__name__)

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


# -------- What `geneface evaluate` measures and prints


def evaluate_person(args: argparse.Namespace) -> dict[str, Any]:
    """`geneface evaluate --subject`: scores a person, prints the tables, returns the figures."""
    folder = Path(args.subject)
    training_subject = Subject.load(folder)
    if args.motion:
        return _evaluate_motion_of(args, folder, training_subject)
    other = heldout.in_head_frame_of(Subject.load(args.against), training_subject) if args.against else None
    target = heldout.full_clip_target(other, args.size) if other else heldout.heldout_target(training_subject, args.size)
    perceptual = Perceptual.find(args.lpips)
    faces = _mediapipe_works()
    result: dict[str, Any] = {
        "frames": [target.frames.start, target.frames.stop],
        "size": target.size,
        "dataset": str(target.subject.folder),
        "lpips": None if perceptual is None else "0.1, AlexNet",
        "pixels": heldout.baselines(target, training_subject, faces=faces, perceptual=perceptual) if args.baselines else {},
    }
    if not args.baselines or heldout.trained_parts(folder):
        result |= _renderings(args, folder, target, faces, perceptual, result["pixels"])
    # In the dataset's own head frame: `target` may have been transformed into the training subject's.
    result["pose_jitter"] = scores.smoothing_report(training_subject if other is None else Subject.load(args.against))
    _show_person(args, result)
    return result


def _renderings(args: argparse.Namespace, folder: Path, target: Any, faces: bool, perceptual: Any, rows: dict[str, Any]) -> dict[str, Any]:
    """Renders and scores the head over the true torso and, if there is a torso network, the complete person; adds scores to `rows`."""
    parts = heldout.trained_parts(folder)
    # Version -> suffix of the video's file name.
    versions = {"rendered": ""} | ({"composite": "_composite"} if parts and parts.torso else {})
    found: dict[str, Any] = {"protocol": args.protocol, "videos": {}, "speed": {}, "landmarks": {}}
    for name, ending in versions.items():
        composite = name == "composite"
        path = Path(args.out) if args.out else folder / "evaluation" / f"{args.protocol}.mp4"
        path = path.with_name(f"{path.stem}{ending}{path.suffix}")
        scored = _write_comparison(
            path, target, heldout.render_target(folder, target, args.protocol, composite=composite), faces, perceptual
        )
        rows[name] = scored["pixels"]
        found["landmarks"][name] = scored["landmarks"]
        found["videos"][name] = str(path)
        found["speed"][name] = scores.frames_per_second(heldout.render_target(folder, target, args.protocol, composite=composite))
    if args.protocol == "audio":
        expert = find_expert(folder, Path(args.syncnet) if args.syncnet else None)
        found["motion"] = evaluate_motion(folder, target.subject, target.frames, expert=expert)
    return found


def _show_person(args: argparse.Namespace, result: dict[str, Any]) -> None:
    rows, (first, end), size = result["pixels"], result["frames"], result["size"]
    caption = f"Mean over {end - first} frames ({first} to {end - 1}) of {result['dataset']}, {size}x{size}, 8-bit RGB before H.264."
    values: dict[str, str] = {} if result["lpips"] else {"LPIPS": LPIPS_UNAVAILABLE}
    if "rendered" in rows:
        caption += f" Frames are {heldout.PROTOCOLS[args.protocol]}; rendered: over the true torso and background"
        caption += "; composite: over the torso network and the one background." if "composite" in rows else "."
        version = "composite" if "composite" in rows else "rendered"
        if result["landmarks"][version]:
            values |= landmark_rows(result["landmarks"][version])
        values |= seam_rows(rows["composite"]) if "composite" in rows else {}
        values |= sync_rows(result["motion"]) if "motion" in result else {}
        values |= speed_rows(result["speed"])
    else:
        caption += " The head is not trained yet."
    values |= smoothing_rows(result["pose_jitter"])
    show(pixel_table("Unseen frames" if args.against else "Held-out frames", rows, caption))
    show(value_table("Rendered against true frames" if "rendered" in rows else "Poses", values))
    for name, path in result.get("videos", {}).items():
        print(f"true, {name}, difference (x4): {path}")


def _evaluate_motion_of(args: argparse.Namespace, folder: Path, training_subject: Any) -> dict[str, Any]:
    subject = heldout.in_head_frame_of(Subject.load(args.against), training_subject) if args.against else training_subject
    frames = range(subject.n_frames) if args.against else subject.heldout
    expert = find_expert(folder, Path(args.syncnet) if args.syncnet else None)
    if expert is None:
        logger.warning("The sync AUC is omitted because the person's SyncNet is missing: give one with --syncnet DIR.")
    figures = evaluate_motion(folder, subject, frames, expert=expert)
    caption = f"{len(frames)} frames ({frames.start} to {frames.stop - 1}) of {subject.folder}"
    show(value_table("Landmarks from audio", motion_rows(figures), caption))
    return {"dataset": str(subject.folder), "frames": [frames.start, frames.stop], "motion": figures}


def _write_comparison(out: Path, target: Any, images: Any, faces: bool, perceptual: Any) -> dict[str, Any]:
    """Scores frames while they are rendered and writes truth, prediction and difference side by side."""
    with VideoWriter(out, heldout.heldout_sound(target)) as writer:

        def write(truth: np.ndarray, image: np.ndarray) -> None:
            writer.write(np.concatenate([truth, image, difference(image, truth)], axis=1))

        progress = tqdm(images, total=len(target.frames), unit="frame", desc="rendering", leave=False, disable=None)
        return heldout.score_render(target, progress, write, faces=faces, perceptual=perceptual)


def evaluate_video(args: argparse.Namespace) -> dict[str, Any]:
    """`geneface evaluate --video`: scores a video, prints the tables, returns the figures."""
    result: dict[str, Any] = {"video": args.video}
    if args.truth:
        masks = scores.load_head_masks(Path(args.truth_masks)) if args.truth_masks else None
        found = scores.compare_videos(Path(args.video), Path(args.truth), size=args.size, head_masks=masks)
        result |= {"truth": args.truth, **found}
        caption = f"Mean over {found['frames']} frames, {found['size']}x{found['size']}, decoded video (after H.264)"
        caption += f"; {found['frames_left_out']} frames of the longer video left out." if found["frames_left_out"] else "."
        show(pixel_table(f"{args.video} against {args.truth}", {"video": found["pixels"]}, caption))
        show(value_table("Landmarks", landmark_rows(found["landmarks"])))
    if args.audio or not args.truth:
        result["envelope"] = scores.video_against_audio(Path(args.video), Path(args.audio) if args.audio else None)
        show(value_table(f"Mouth of {args.video} and {args.audio or 'its sound'}", envelope_rows(result["envelope"])))
    return result


def _mediapipe_works() -> bool:
    """Whether MediaPipe runs on this machine; otherwise warns that landmark figures are omitted."""
    try:
        with scores.landmark_tracks(1):
            return True
    except InputError as error:
        logger.warning("Landmark figures are omitted: %s", error)
        return False
