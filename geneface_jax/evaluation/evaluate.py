"""What `geneface evaluate` measures: a person on held-out frames, its landmarks from audio alone, or a video (see `report` for tables)."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.command_line import bar
from data_tools.errors import InputError
from data_tools.io import require_output
from data_tools.video import VideoWriter
from geneface_jax.data.corpus import MOTION_DIM, Clip
from geneface_jax.data.motion import motion_lmd, mouth_opening, pearson
from geneface_jax.data.speech_batches import NormalizedClip, model_audio, normalize_clip
from geneface_jax.data.subject import Subject, feature_types_of, require_same_dataset, require_same_features
from geneface_jax.evaluation import heldout, scores
from geneface_jax.evaluation.metrics import Perceptual, best_lag, difference, jitter
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.compilation_cache import keep_programs
from geneface_jax.io.person_folder import evaluation_folder, find_person
from geneface_jax.training.speech_losses import SyncExpert, windows_auc
from geneface_jax.typing import Float, Integer

logger = logging.getLogger(__name__)

# -------- A person, or a video

PROTOCOLS = tuple(heldout.PROTOCOLS)
"""What drives the head: "head" the true landmarks, "audio" the landmarks that the networks predict from the sound."""


def evaluate(
    person: str | os.PathLike[str],
    *,
    protocol: str = "head",
    against: str | os.PathLike[str] | None = None,
    size: int | None = None,
    baselines: bool = False,
    out: str | os.PathLike[str] | None = None,
    lpips: str | os.PathLike[str] | None = None,
    syncnet: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Scores a trained person on frames that it was not trained on (docs/metrics.md).

    Args:
      person: the person's folder, with the full dataset.
      protocol: one of `PROTOCOLS`.
      against: another dataset of the same person and crop, all of whose frames are scored instead.
      size: height and width in pixels that all frames are area-resampled to before scoring; None keeps the dataset's.
      baselines: also score copied and averaged training frames.
      out: video of truth, prediction and difference side by side; None is `PERSON/evaluation/PROTOCOL.mp4`
        (`evaluation/NAME/` below the current folder for a person of an installed wheel).
      lpips: file of LPIPS weights; None uses those of scripts/fetch_lpips.py, if present.
      syncnet: work folder of the SyncNet for the sync AUC; None as `find_expert`.

    Returns:
      `frames` (first, end), `size`, `dataset`, `lpips`, `pixels` (method -> region -> `psnr` in dB, `ssim`, `lpips`, `pixels`),
      `landmarks`, `speed`, `videos`, `pose_jitter`, and with protocol "audio" `motion`. Without a trained head only the baselines.

    Raises:
      InputError: no such person or dataset, a light one, or an argument out of range.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol is {protocol!r}: choose {', '.join(PROTOCOLS)}.")
    _check_size(size)
    keep_programs()
    folder = find_person(person)
    video = Path(out) if out else evaluation_folder(folder) / f"{protocol}.mp4"
    if not baselines or heldout.trained_parts(folder):
        require_output(video)
    training_subject = Subject.load(folder)
    other = Subject.load(against) if against else None
    if other is not None and protocol == "audio":
        _require_same_sound(other, training_subject)
    if other is None:
        target = heldout.heldout_target(training_subject, size)
    else:
        target = heldout.full_clip_target(heldout.in_head_frame_of(other, training_subject), size)
    perceptual = Perceptual.find(lpips)
    faces = _mediapipe_works()
    result: dict[str, Any] = {
        "frames": [target.frames.start, target.frames.stop],
        "size": target.size,
        "dataset": str(target.subject.folder),
        "unseen": against is not None,
        "lpips": None if perceptual is None else "0.1, AlexNet",
        "pixels": heldout.baselines(target, training_subject, faces=faces, perceptual=perceptual) if baselines else {},
    }
    if not baselines or heldout.trained_parts(folder):
        parts = heldout.trained_parts(folder)
        networks = heldout.Networks(folder, torso=parts is not None and parts.torso is not None, subject=training_subject)
        found = _renderings(networks, target, protocol, video, faces, perceptual)
        result["pixels"] |= found.pop("pixels")
        result |= found
        if protocol == "audio":
            expert = find_expert(folder, Path(syncnet) if syncnet else None)
            result["motion"] = evaluate_motion(folder, target.subject, target.frames, expert=expert, speech=networks.speech)
    # In the dataset's own head frame: `target` may have been transformed into the training subject's.
    result["pose_jitter"] = scores.smoothing_report(training_subject if other is None else other)
    return result


def _renderings(networks: heldout.Networks, target: Any, protocol: str, video: Path, faces: bool, perceptual: Any) -> dict[str, Any]:
    """Renders and scores the head over the true torso and, if there is a torso network, the complete person."""
    # Version -> suffix of the video's file name.
    versions = {"rendered": ""} | ({"composite": "_composite"} if networks.torso else {})
    found: dict[str, Any] = {"protocol": protocol, "pixels": {}, "videos": {}, "speed": {}, "landmarks": {}}
    for name, ending in versions.items():
        composite = name == "composite"
        path = video.with_name(f"{video.stem}{ending}{video.suffix}")
        images = heldout.render_target(networks, target, protocol, composite=composite)
        scored = _write_comparison(path, target, images, faces, perceptual)
        found["pixels"][name] = scored["pixels"]
        found["landmarks"][name] = scored["landmarks"]
        found["videos"][name] = str(path)
        found["speed"][name] = scores.frames_per_second(heldout.render_target(networks, target, protocol, composite=composite))
    return found


def _write_comparison(out: Path, target: Any, images: Any, faces: bool, perceptual: Any) -> dict[str, Any]:
    """Scores frames while they are rendered and writes truth, prediction and difference side by side."""
    with VideoWriter(out, heldout.heldout_sound(target)) as writer:

        def write(truth: np.ndarray, image: np.ndarray) -> None:
            writer.write(np.concatenate([truth, image, difference(image, truth)], axis=1))

        progress = bar(images, total=len(target.frames), unit="frame", desc="rendering", leave=False)
        return heldout.score_render(target, progress, write, faces=faces, perceptual=perceptual)


def evaluate_speech(
    person: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    syncnet: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Scores the landmarks that a person's networks predict from audio, without rendering; arguments as `evaluate`.

    Returns:
      `dataset`, `frames` (first, end) and `motion`, the figures of `evaluate_motion`.
    """
    keep_programs()
    folder = find_person(person)
    training_subject = Subject.load(folder)
    subject = training_subject
    if against:
        other = Subject.load(against)
        _require_same_sound(other, training_subject)
        subject = heldout.in_head_frame_of(other, training_subject)
    speech = AudioToMotion.load(folder / "postnet")
    require_same_dataset(f"the postnet of {folder}", speech.trained_on, training_subject)
    frames = range(subject.n_frames) if against else subject.heldout
    expert = find_expert(folder, Path(syncnet) if syncnet else None)
    if expert is None:
        logger.warning("The sync AUC is omitted because the person's SyncNet is missing: give one with --syncnet DIR.")
    figures = evaluate_motion(folder, subject, frames, expert=expert, speech=speech)
    return {"dataset": str(subject.folder), "frames": [frames.start, frames.stop], "motion": figures}


def _require_same_sound(other: Subject, training_subject: Subject) -> None:
    """Raises InputError if the networks of a person can't hear another dataset, which was made with other features."""
    ours, theirs = (feature_types_of(subject.meta) for subject in (training_subject, other))
    require_same_features(f"The dataset {other.folder}", theirs, f"the dataset {training_subject.folder}", ours)


def evaluate_video(
    video: str | os.PathLike[str],
    *,
    truth: str | os.PathLike[str] | None = None,
    truth_masks: str | os.PathLike[str] | None = None,
    audio: str | os.PathLike[str] | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """Scores a video against the true one, and its mouth against the loudness of the sound.

    Args:
      video: the video.
      truth: the true video; None compares with the sound alone.
      truth_masks: npz file with the true head masks (`head_mask`).
      audio: the sound, if it is not the video's own; given with `truth`, both are scored.
      size: height and width in pixels that all frames are area-resampled to before scoring; None keeps the true video's.

    Returns:
      `video`; with a truth `truth`, `pixels`, `landmarks`, `frames`, `frames_left_out` and `size`; with sound `envelope`.

    Raises:
      InputError: a file is missing or unreadable, or the frames do not match.
    """
    _check_size(size)
    result: dict[str, Any] = {"video": str(video)}
    if truth:
        masks = scores.load_head_masks(Path(truth_masks)) if truth_masks else None
        result |= {"truth": str(truth), **scores.compare_videos(Path(video), Path(truth), size=size, head_masks=masks)}
    if audio or not truth:
        result["audio"] = None if audio is None else str(audio)
        result["envelope"] = scores.video_against_audio(Path(video), Path(audio) if audio else None)
    return result


def _check_size(size: int | None) -> None:
    if size is not None and not 32 <= size <= 2048:
        raise InputError(f"--size is {size}: give a number of pixels from 32 to 2048.")


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
    subject_dir: Path,
    subject: Subject,
    frames: range,
    *,
    temperature: float = 0.0,
    expert: SyncExpert | None = None,
    speech: AudioToMotion | None = None,
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
      speech: the networks of `SUBJECT/postnet` if they are in memory already.

    Returns:
      `motion_report`, and `other_sound_correlation`: the mean of `mouth_correlation` over other stretches (nan if the recording is
      shorter than 2 s); with an expert also `sync_auc` of the prediction and `truth_sync_auc`.

    Raises:
      InputError: no trained postnet, or a SyncNet of another face model or feature type.
    """
    speech = AudioToMotion.load(subject_dir / "postnet") if speech is None else speech
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
    trained_with = configs.load_saved(config.parent).get("data", {}).get("syncnet") if config.is_file() else None
    for folder in filter(None, (trained_with, configs.shipped("checkpoints") / "avatar" / "syncnet")):
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


def _mediapipe_works() -> bool:
    """Whether MediaPipe runs on this machine; otherwise warns that landmark figures are omitted."""
    try:
        with scores.landmark_tracks(1):
            return True
    except InputError as error:
        logger.warning("Landmark figures are omitted: %s", error)
        return False
