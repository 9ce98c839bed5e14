"""Held-out evaluation of a trained person: head and audio protocols, baselines, aligning two datasets, speed, pose smoothing."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE, load_audio
from data_tools.errors import InputError
from data_tools.face import pose as face_pose
from data_tools.face.align import pose_known
from data_tools.face.motion import canonical_landmarks
from data_tools.face.pose import INTERPOLATED_TRUST, camera_matrices, similarity
from data_tools.landmarks68 import motion_from_landmarks
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.metrics import Perceptual, face_hull_mask, hard_head_mask, jitter, mouth_mask, neck_band_mask, pose_jitter
from geneface_jax.evaluation.scores import PixelScores, landmark_summary, landmark_tracks
from geneface_jax.inference.pictures import resize
from geneface_jax.io.person_folder import SubjectParts, find_parts

# ----------------------------------------------------------------------------------------------------
# What a renderer must beat: the training frame whose landmarks are nearest, and the mean training image.


def nearest_training_frames(landmarks: np.ndarray, train: range, queries: range) -> np.ndarray:
    """For each query frame, the training frame nearest in all landmark coordinates (Euclidean over the 3 x 478 numbers).

    Args:
      landmarks: [T, 478, 3] pixels.
      train, queries: frame numbers.

    Returns:
      [len(queries)] int64 frame numbers in `train`.
    """
    flat = landmarks.reshape(len(landmarks), -1).astype(np.float64)
    known = flat[train.start : train.stop]
    distances = [((known - flat[query]) ** 2).sum(1) for query in queries]
    return np.array([train.start + int(np.argmin(row)) for row in distances], np.int64)


class MeanImage:
    """Running mean of pictures, so that a long video need not be in memory."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._count = 0

    def add(self, image: np.ndarray) -> None:
        """Adds one uint8 [H, W, 3]."""
        self._sum = image.astype(np.float64) if self._sum is None else self._sum + image
        self._count += 1

    def result(self) -> np.ndarray:
        """uint8 [H, W, 3], rounded."""
        if self._sum is None:
            raise ValueError("the mean of no pictures")
        return np.clip(np.rint(self._sum / self._count), 0, 255).astype(np.uint8)


# ----------------------------------------------------------------------------------------------------
# Bringing two datasets of one person into the same head frame.
#
# Each dataset's canonical head frame is fitted to its own clip, so two clips of one person agree only up to a few degrees, millimetres
# and a per cent of scale. That is nothing to a model trained on one of them, but a picture rendered with the other's cameras is off by as
# much.
#
# Where both datasets say enough, the clip's poses are solved again with the reference's rigid shape and skin. On the demo's sentence of
# six seconds, in which the head looks to one side, that is worth 2.3 dB (27.56 to 29.86 dB, the avatar's head at 256x256, 146 frames);
# the landmarks' average shapes, which are used otherwise, are bent by the pose that a short clip shows most.

STEADY = slice(0, 48)
"""Of the 68 points, all but the mouth: averaged over a clip, even jaw and brows say more about the frame than about the expression."""


def in_head_frame_of(subject: Subject, reference: Subject) -> Subject:
    """`subject` with cameras and motion expressed in the head frame of `reference` (another clip of the same person)."""
    full = subject.landmarks_mediapipe is not None and not subject.is_light
    if full and reference.known_face is not None and subject.face_model == reference.face_model:
        return _solved_again(subject, reference)
    return _moved_over(subject, reference)


def _solved_again(subject: Subject, reference: Subject) -> Subject:
    """Poses and motion from the clip's landmarks and pictures, and the reference's rigid shape and skin."""
    assert reference.known_face is not None and subject.landmarks_mediapipe is not None
    landmarks, trust = subject.landmarks_mediapipe, np.where(subject.interpolated, INTERPOLATED_TRUST, 1.0)
    frames = (subject.frames([i])[0] for i in range(subject.n_frames))
    pose = pose_known(reference.known_face, landmarks, frames, subject.size, trust)
    motion = motion_from_landmarks(canonical_landmarks(landmarks, pose, subject.size))
    return dataclasses.replace(subject, motion=motion, cameras=camera_matrices(pose.rotation, pose.translation))


def _moved_over(subject: Subject, reference: Subject) -> Subject:
    """Cameras and motion moved by the similarity between the clips' average landmarks."""
    landmarks = subject.mean_face + subject.motion / 10.0
    wanted = reference.mean_face + reference.motion / 10.0
    scale, rotation, shift = similarity(landmarks[:, STEADY].mean(0), wanted[:, STEADY].mean(0))
    moved = scale * landmarks @ rotation.T + shift
    cameras = subject.cameras.astype(np.float64)
    cameras[:, :3, :3] = rotation @ cameras[:, :3, :3]
    # Landmarks are in decimetres, cameras in metres.
    cameras[:, :3, 3] = scale * cameras[:, :3, 3] @ rotation.T + shift / 10.0
    return dataclasses.replace(subject, motion=(10.0 * (moved - subject.mean_face)).astype(np.float32), cameras=cameras.astype(np.float32))


# ----------------------------------------------------------------------------------------------------
# A trained person on frames it has not seen: the head protocol, the audio protocol, and the baselines on the same pixels.

PROTOCOLS = {
    "head": "driven by the frames' own landmarks, pose and eye openness",
    "audio": "driven by landmarks from the audio, with true pose and eyes",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """The frames that are scored, and how.

    Attributes:
      subject: a full dataset of the person.
      frames: which of its frames.
      size: H = W in pixels at which everything is scored.
    """

    subject: Subject
    frames: range
    size: int

    def truth(self, frame: int) -> np.ndarray:
        """uint8 [size, size, 3]."""
        return resize(self.subject.frames([frame])[0], self.size, self.size)

    def regions(self, frame: int) -> dict[str, np.ndarray | None]:
        """Region name -> bool [size, size]; None is the whole frame."""
        subject, size = self.subject, self.size
        assert subject.landmarks_mediapipe is not None  # a light dataset never becomes a target
        hull = face_hull_mask(subject.landmarks_mediapipe[frame] * (size / subject.size), size)
        head = resize(subject.head_masks([frame])[0], size, size)
        neck = neck_band_mask(head, resize(subject.torso([frame])[0, ..., 3], size, size))
        mouth = mouth_mask(subject.lip_box[frame], size, subject.size)
        return {"face hull": hull, "head": hard_head_mask(head), "mouth": mouth, "neck band": neck, "frame": None}


def heldout_target(subject: Subject, size: int | None = None) -> Target:
    """The held-out frames of a dataset, at its own size unless another is given.

    Raises:
      InputError: a light dataset, or one without held-out frames.
    """
    return _target(subject, subject.heldout, size)


def full_clip_target(subject: Subject, size: int | None = None) -> Target:
    """All frames of another dataset of the person, which no stage was trained on. Raises as `heldout_target`."""
    return _target(subject, range(subject.n_frames), size)


def score(target: Target, images: Iterable[np.ndarray], perceptual: Perceptual | None = None) -> dict[str, dict[str, float]]:
    """Pixel figures of one image per target frame (uint8 [H, W, 3] of any size, area-resampled); see `PixelScores.summary`."""
    scores = PixelScores(perceptual)
    for frame, image in zip(target.frames, images, strict=True):
        scores.add(resize(image, target.size, target.size), target.truth(frame), target.regions(frame))
    return scores.summary()


def baselines(
    target: Target, known: Subject, *, faces: bool = True, perceptual: Perceptual | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of methods that learn nothing.

    "Nearest" depends on whose landmarks are compared. MediaPipe's video mode for one face smooths them over time, which blurs the search
    and costs it 0.7 dB on a clip of 20 s (25.5 instead of 26.2 dB); the published figure is with that smoothing, so both are given.

    Args:
      target: what is scored.
      known: the dataset whose training frames may be copied; usually `target.subject`.
      faces: False leaves out the figure that needs MediaPipe.
      perceptual: LPIPS; None leaves it out.

    Returns:
      {"nearest training frame": summary (MediaPipe's smoothed landmarks), "nearest by the dataset's landmarks": summary,
      "mean training image": summary}.
    """
    mean = MeanImage()
    for frame in known.train:
        mean.add(resize(known.frames([frame])[0], target.size, target.size))
    picture = mean.result()

    def nearest(landmarks: Callable[[Subject], np.ndarray]) -> dict[str, dict[str, float]]:
        subjects = {subject.folder: subject for subject in (known, target.subject)}  # usually one, looked at once
        relative = {folder: landmarks(subject) / subject.size for folder, subject in subjects.items()}
        both = np.concatenate([relative[known.folder], relative[target.subject.folder]])
        queries = range(known.n_frames + target.frames.start, known.n_frames + target.frames.stop)
        chosen = nearest_training_frames(both, known.train, queries)
        return score(target, (known.frames([frame])[0] for frame in chosen), perceptual)

    rows = {"nearest training frame": nearest(_smoothed_landmarks)} if faces else {}
    rows["nearest by the dataset's landmarks"] = nearest(lambda subject: subject.landmarks_mediapipe)
    rows["mean training image"] = score(target, (picture for _ in target.frames), perceptual)
    return rows


def render_target(
    subject_dir: Path,
    target: Target,
    protocol: str,
    *,
    composite: bool = False,
    temperature: float = 0.0,
    end_threshold: float = 1e-2,
) -> Iterator[np.ndarray]:
    """Renders the target's frames with the subject's networks.

    Args:
      subject_dir: `SUBJECT` with trained networks (`io.person_folder`).
      target: frames of the same person, same crop.
      protocol: "head" or "audio".
      composite: False puts the head over the true torso and background; True over the torso network's torso and the dataset's one
        background picture, as inference does.
      temperature: of the predicted motion (audio protocol).
      end_threshold: transmittance that ends a ray.

    Yields:
      uint8 [H, W, 3], before any video encoder.

    Raises:
      InputError: a stage is missing, or the target has another picture size than the person was trained at.
    """
    from geneface_jax.inference.renderer import open_renderer

    parts = find_parts(subject_dir, need_torso=composite, need_speech=protocol == "audio")
    renderer = open_renderer(parts if composite else dataclasses.replace(parts, torso=None))
    subject, frames = target.subject, slice(target.frames.start, target.frames.stop)
    if subject.size != renderer.subject.size:
        raise InputError(
            f"{subject.folder} has {subject.size} pixel frames but {subject_dir} was trained at {renderer.subject.size}; "
            f"prepare it with --size {renderer.subject.size}"
        )
    motion = subject.motion[frames]
    if protocol == "audio":
        from geneface_jax.inference.person import open_speech

        audio = slice(2 * frames.start, 2 * frames.stop)
        speech = open_speech(parts, renderer.subject)
        motion = speech.predict(subject.audio_features[audio], subject.f0[audio], temperature=temperature, seed=0).reshape(-1, 68, 3)
        motion[:, 36:48] = subject.motion[frames, 36:48]
    behind = None if composite else np.stack([_torso_over_background(subject, frame) for frame in target.frames])
    return renderer.render(motion, subject.cameras[frames], subject.eye_openness[frames], background=behind, end_threshold=end_threshold)


def trained_parts(subject_dir: Path) -> SubjectParts | None:
    """The networks of a subject folder that frames can be rendered with; None where no head is trained yet."""
    try:
        return find_parts(subject_dir, need_torso=False, need_speech=False)
    except InputError:
        return None


def score_render(
    target: Target,
    images: Iterable[np.ndarray],
    each: Callable[[np.ndarray, np.ndarray], None] | None = None,
    *,
    faces: bool = True,
    perceptual: Perceptual | None = None,
) -> dict[str, Any]:
    """Scores rendered frames in pixels and, with MediaPipe on both, in landmarks.

    Args:
      target: what is scored.
      images: one uint8 [H, W, 3] per target frame.
      each: called with (truth, image), both [size, size, 3], for every frame: what a comparison video is made of.
      faces: False leaves MediaPipe out.
      perceptual: LPIPS; None leaves it out.

    Returns:
      {"pixels": summary, "landmarks": summary or None}.
    """
    scores = PixelScores(perceptual)
    with landmark_tracks(2 if faces else 0) as tracks:
        for frame, image in zip(target.frames, images, strict=True):
            image, truth = resize(image, target.size, target.size), target.truth(frame)
            scores.add(image, truth, target.regions(frame))
            for track, picture in zip(tracks, (image, truth), strict=False):
                track.add(picture)
            if each is not None:
                each(truth, image)
    return {"pixels": scores.summary(), "landmarks": landmark_summary(*tracks) if faces else None}


def _target(subject: Subject, frames: range, size: int | None) -> Target:
    if subject.is_light or subject.landmarks_mediapipe is None:
        raise InputError(f"{subject.folder} is a light copy without frames; evaluate on the full dataset that `geneface prepare` makes")
    if len(frames) == 0:
        raise InputError(f"{subject.folder} has no held-out frames; prepare a longer video")
    return Target(subject, frames, size or subject.size)


def _smoothed_landmarks(subject: Subject) -> np.ndarray:
    """[T, 478, 3] pixels by MediaPipe's video mode for one face; the dataset's where it finds none."""
    with landmark_tracks(1, filtered=True) as (track,):
        for frame in range(subject.n_frames):
            track.add(subject.frames([frame])[0])
    return np.where(track.found[:, None, None], track.points, subject.landmarks_mediapipe)


def _torso_over_background(subject: Subject, frame: int) -> np.ndarray:
    torso = subject.torso([frame])[0].astype(np.float32)
    alpha = torso[..., 3:] / 255.0
    return np.rint(torso[..., :3] * alpha + subject.background * (1.0 - alpha)).astype(np.uint8)


def heldout_sound(target: Target) -> np.ndarray | None:
    """The target frames' own sound, float32 [n] at 16 kHz, or None when the dataset holds no audio.wav or it is silent."""
    path = target.subject.folder / "audio.wav"
    try:
        samples = load_audio(path)
    except InputError:
        return None
    return samples[target.frames.start * SAMPLE_RATE // FPS : target.frames.stop * SAMPLE_RATE // FPS]


# ----------------------------------------------------------------------------------------------------
# Frames per second, without what happens once (compiling, the first frames) and without any scoring.

WARM_UP = 3
"""Frames before the clock starts: the first compiles, and two batches are under way at any time."""

MIN_MEASURED = 4
"""Fewer say nothing."""

MEASURED = 20
"""Frames that are timed at most."""


def frames_per_second(images: Iterable[np.ndarray], warm_up: int = WARM_UP, measured: int = MEASURED) -> dict[str, Any] | None:
    """Times a stream of frames that are made when they are asked for.

    Args:
      images: the stream; read to its end, or to `warm_up + measured` frames.
      warm_up: frames that are not counted.
      measured: frames that are counted at most.

    Returns:
      {"frames_per_second", "frames" (counted), "device", "cores"}; None when fewer than `MIN_MEASURED` frames could be counted.
    """
    started, counted = 0.0, 0
    for i, _ in enumerate(images):
        counted = i + 1 - warm_up
        if counted == 0:
            started = time.perf_counter()
        if counted == measured:
            break
    if counted < MIN_MEASURED:
        return None
    rate = counted / max(time.perf_counter() - started, 1e-9)
    device = jax.devices()[0]
    return {
        "frames_per_second": rate,
        "frames": counted,
        "device": f"{device.platform} {device.device_kind}".strip(),
        "cores": os.cpu_count(),
    }


# ----------------------------------------------------------------------------------------------------
# How much the head pose of a dataset trembles, before smoothing and after it.


def smoothing_report(subject: Subject) -> dict[str, dict[str, float]]:
    """Jitter of the pose path, fitted to the dataset's landmarks frame by frame, and of the path the dataset holds.

    Args:
      subject: a full dataset; its whole clip is looked at, since that is what was smoothed together.

    Returns:
      {"before", "after"}, each {"rotation_degrees", "translation_mm" (mean second differences), "pixels" (the same of the face's rigid
      points as the poses project them, in pixels of the dataset's size)}.
    """
    assert subject.landmarks_mediapipe is not None  # a light dataset is never evaluated
    trust = np.where(subject.interpolated, 1e-3, 1.0)
    fitted = face_pose.solve_poses(subject.landmarks_mediapipe, subject.size, trust)
    before = face_pose.camera_matrices(fitted.unsmoothed_rotation, fitted.unsmoothed_translation)
    return {
        "before": _figures(before, fitted.shape, subject.size),
        "after": _figures(subject.cameras, fitted.shape, subject.size),
    }


def _figures(cameras: np.ndarray, shape: np.ndarray, size: int) -> dict[str, float]:
    degrees, millimeters = pose_jitter(cameras)
    rotation = cameras[:, :3, :3].astype(np.float64).transpose(0, 2, 1)
    # Cameras are in metres, the shape in decimetres.
    translation = -10.0 * np.einsum("tij,tj->ti", rotation, cameras[:, :3, 3].astype(np.float64))
    return {
        "rotation_degrees": degrees,
        "translation_mm": millimeters,
        "pixels": jitter(face_pose.project(shape, rotation, translation, size)),
    }
