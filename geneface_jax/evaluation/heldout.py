"""Held-out evaluation of a trained person: head and audio protocols, baselines, alignment of two datasets of the same person."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.sound import FPS, SAMPLE_RATE, load_audio
from data_tools.errors import InputError
from data_tools.face.align import pose_known
from data_tools.face.pose import INTERPOLATED_TRUST, camera_matrices, canonical_landmarks, similarity
from data_tools.landmarks68 import MOUTH, motion_from_landmarks
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.metrics import Perceptual, face_hull_mask, hard_head_mask, mouth_mask, neck_band_mask
from geneface_jax.evaluation.scores import PixelScores, landmark_summary, landmark_tracks
from geneface_jax.inference import renderer
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.person import open_speech
from geneface_jax.inference.pictures import resize
from geneface_jax.io.person_folder import SubjectParts, find_parts
from geneface_jax.typing import Bool, Float, Float32, Int, UInt8

# -------- Baselines: nearest training frame by landmarks, and mean training image


def nearest_training_frames(landmarks: Float[np.ndarray, "T 478 3"], train: range, queries: range) -> Int[np.ndarray, " Q"]:
    """The training frame nearest to each query frame in landmark space (Euclidean distance over the 3 x 478 coordinates).

    `train` and `queries` are frame numbers of `landmarks`; the result lies in `train`.
    """
    flat = landmarks.reshape(len(landmarks), -1).astype(np.float64)
    training = flat[train.start : train.stop]
    distances = [((training - flat[query]) ** 2).sum(1) for query in queries]
    return np.array([train.start + int(np.argmin(row)) for row in distances], np.int64)


class MeanImage:
    """Running mean of pictures, which need not be in memory together."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._count = 0

    def add(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Adds one picture."""
        self._sum = image.astype(np.float64) if self._sum is None else self._sum + image
        self._count += 1

    def result(self) -> UInt8[np.ndarray, "H W 3"]:
        """The mean, rounded."""
        if self._sum is None:
            raise ValueError("result() needs at least one picture: call add() first")
        return np.clip(np.rint(self._sum / self._count), 0, 255).astype(np.uint8)


# -------- Alignment of two datasets of one person to the same canonical head frame

NON_MOUTH = slice(0, MOUTH.start)
"""Of the 68 points, those whose clip average depends more on the head frame than on the expression, jaw and brows included."""


def in_head_frame_of(subject: Subject, reference: Subject) -> Subject:
    """`subject` with cameras and motion expressed in the head frame of `reference` (another clip of the same person).

    The canonical head frame is fitted to each clip, so two clips of one person differ by a few degrees, millimeters and a percent of
    scale; a picture rendered with the other clip's cameras is off by as much. If both datasets hold the data for it, the clip's poses are
    solved again with the reference's rigid shape and skin: +2.3 dB on the demo's sentence of six seconds, in which the head looks to one
    side (27.56 to 29.86 dB, the avatar's head at 256x256, 146 frames). Otherwise the average landmarks are aligned, which a short clip's
    dominant pose biases.
    """
    full = subject.landmarks_mediapipe is not None and not subject.is_light
    if full and reference.known_face is not None and subject.face_model == reference.face_model:
        return _solve_with_known_face(subject, reference)
    return _apply_similarity(subject, reference)


def _solve_with_known_face(subject: Subject, reference: Subject) -> Subject:
    """Poses and motion solved from the clip's landmarks and pictures, with the reference's rigid shape and skin."""
    assert reference.known_face is not None and subject.landmarks_mediapipe is not None
    landmarks, trust = subject.landmarks_mediapipe, np.where(subject.interpolated, INTERPOLATED_TRUST, 1.0)
    frames = (subject.frames([i])[0] for i in range(subject.n_frames))
    pose = pose_known(reference.known_face, landmarks, frames, subject.size, trust)
    motion = motion_from_landmarks(canonical_landmarks(landmarks, pose, subject.size))
    return dataclasses.replace(subject, motion=motion, cameras=camera_matrices(pose.rotation, pose.translation))


def _apply_similarity(subject: Subject, reference: Subject) -> Subject:
    """Cameras and motion transformed by the similarity between the clips' average landmarks."""
    landmarks = subject.mean_face + subject.motion / 10.0
    wanted = reference.mean_face + reference.motion / 10.0
    scale, rotation, shift = similarity(landmarks[:, NON_MOUTH].mean(0), wanted[:, NON_MOUTH].mean(0))
    moved = scale * landmarks @ rotation.T + shift
    cameras = subject.cameras.astype(np.float64)
    cameras[:, :3, :3] = rotation @ cameras[:, :3, :3]
    # Landmarks are in decimeters, cameras in meters.
    cameras[:, :3, 3] = scale * cameras[:, :3, 3] @ rotation.T + shift / 10.0
    return dataclasses.replace(subject, motion=(10.0 * (moved - subject.mean_face)).astype(np.float32), cameras=cameras.astype(np.float32))


# -------- Protocols: which frames are scored, how they are rendered, and their scores next to the baselines'

PROTOCOLS = {
    "head": "driven by the frames' own landmarks, pose and eye openness",
    "audio": "driven by landmarks from the audio, with true pose and eyes",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """The frames to score.

    Attributes:
      subject: a full dataset of the person.
      frames: frame numbers in it.
      size: H = W in pixels at which everything is scored.
    """

    subject: Subject
    frames: range
    size: int

    def truth(self, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        """The true frame at `size`."""
        return resize(self.subject.frames([frame])[0], self.size, self.size)

    def regions(self, frame: int) -> dict[str, Bool[np.ndarray, "H W"] | None]:
        """Region name -> mask at `size`; None is the whole frame."""
        subject, size = self.subject, self.size
        assert subject.landmarks_mediapipe is not None  # `_target` refuses light datasets
        hull = face_hull_mask(subject.landmarks_mediapipe[frame] * (size / subject.size), size)
        head = resize(subject.head_masks([frame])[0], size, size)
        neck = neck_band_mask(head, resize(subject.torso([frame])[0, ..., 3], size, size))
        mouth = mouth_mask(subject.lip_box[frame], size, subject.size)
        return {"face hull": hull, "head": hard_head_mask(head), "mouth": mouth, "neck band": neck, "frame": None}


def heldout_target(subject: Subject, size: int | None = None) -> Target:
    """The held-out frames of a dataset, at its own size if `size` is None; raises InputError for light datasets or if there are none."""
    return _target(subject, subject.heldout, size)


def full_clip_target(subject: Subject, size: int | None = None) -> Target:
    """All frames of another dataset of the person, on which no stage was trained. Raises as `heldout_target`."""
    return _target(subject, range(subject.n_frames), size)


def score(target: Target, images: Iterable[np.ndarray], perceptual: Perceptual | None = None) -> dict[str, dict[str, float]]:
    """Pixel scores of one image per target frame (uint8 [H, W, 3] of any size, area-resampled); see `PixelScores.summary`."""
    scores = PixelScores(perceptual)
    for frame, image in zip(target.frames, images, strict=True):
        scores.add(resize(image, target.size, target.size), target.truth(frame), target.regions(frame))
    return scores.summary()


def baselines(
    target: Target, training_subject: Subject, *, faces: bool = True, perceptual: Perceptual | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of methods without learning.

    The nearest frame depends on the landmarks: MediaPipe's video mode for one face smooths them over time, which costs 0.7 dB on a clip
    of 20 s (25.5 instead of 26.2 dB). The published figure is with that smoothing, so both are computed.

    Args:
      training_subject: the dataset whose training frames may be copied; usually `target.subject`.
      faces: False omits the baseline that needs MediaPipe.

    Returns:
      {"nearest training frame": summary (MediaPipe's smoothed landmarks), "nearest by the dataset's landmarks": summary,
      "mean training image": summary}.
    """
    mean = MeanImage()
    for frame in training_subject.train:
        mean.add(resize(training_subject.frames([frame])[0], target.size, target.size))
    picture = mean.result()

    def nearest(landmarks: Callable[[Subject], np.ndarray]) -> dict[str, dict[str, float]]:
        subjects = {subject.folder: subject for subject in (training_subject, target.subject)}  # usually the same, computed once
        relative = {folder: landmarks(subject) / subject.size for folder, subject in subjects.items()}
        both = np.concatenate([relative[training_subject.folder], relative[target.subject.folder]])
        offset = training_subject.n_frames
        queries = range(offset + target.frames.start, offset + target.frames.stop)
        chosen = nearest_training_frames(both, training_subject.train, queries)
        return score(target, (training_subject.frames([frame])[0] for frame in chosen), perceptual)

    rows = {"nearest training frame": nearest(_smoothed_landmarks)} if faces else {}
    rows["nearest by the dataset's landmarks"] = nearest(lambda subject: subject.landmarks_mediapipe)
    rows["mean training image"] = score(target, (picture for _ in target.frames), perceptual)
    return rows


class Networks:
    """A person's networks for the protocols; each is read when it is first needed, and once.

    Args:
      subject_dir: `SUBJECT` with trained networks (`io.person_folder`).
      torso: whether its torso network is needed too.
      subject: its dataset if it is in memory already.
    """

    def __init__(self, subject_dir: Path, *, torso: bool, subject: Subject | None = None) -> None:
        self.torso, self._folder, self._subject = torso, subject_dir, subject

    @functools.cached_property
    def composite(self) -> renderer.Renderer:
        """Renders head, torso and background. Raises InputError if a stage is missing, as the others do."""
        return renderer.open_renderer(find_parts(self._folder, need_speech=False), subject=self._subject)

    @functools.cached_property
    def head(self) -> renderer.Renderer:
        """Renders the head over a given picture."""
        # The head of a vanilla NeRF is read again: with a torso it is the checkpoint that the torso was trained with.
        if self.torso and isinstance(self.composite, renderer.SubjectRenderer):
            return dataclasses.replace(self.composite, torso=None, torso_params=None)
        parts = find_parts(self._folder, need_torso=False, need_speech=False)
        return renderer.open_renderer(dataclasses.replace(parts, torso=None), subject=self._subject)

    @functools.cached_property
    def speech(self) -> AudioToMotion:
        """Predicts motion from sound."""
        return open_speech(find_parts(self._folder, need_torso=False), self._subject or self.head.subject)


def render_target(
    person: Networks | Path,
    target: Target,
    protocol: str,
    *,
    composite: bool = False,
    temperature: float = 0.0,
    end_threshold: float = 1e-2,
) -> Iterator[np.ndarray]:
    """Renders the target's frames.

    Args:
      person: its networks, or its folder.
      target: frames of the same person, same crop.
      protocol: "head" or "audio", see `PROTOCOLS`.
      composite: False composites the head over the true torso and background; True over the torso network's output and the dataset's
        background picture, as inference does.
      temperature: of the predicted motion (audio protocol).
      end_threshold: transmittance that ends a ray.

    Yields:
      uint8 [H, W, 3], before any video encoder.

    Raises:
      InputError: a stage is missing, or the target has another picture size than the person was trained at.
    """
    networks = person if isinstance(person, Networks) else Networks(person, torso=composite)
    chosen = networks.composite if composite else networks.head
    subject, frames = target.subject, slice(target.frames.start, target.frames.stop)
    if subject.size != chosen.subject.size:
        raise InputError(
            f"{subject.folder} has {subject.size} pixel frames, but {chosen.subject.folder.parent} was trained at {chosen.subject.size}: "
            f"prepare it with --size {chosen.subject.size}."
        )
    motion = subject.motion[frames]
    if protocol == "audio":
        audio = slice(2 * frames.start, 2 * frames.stop)
        predicted = networks.speech.predict(subject.audio_features[audio], subject.f0[audio], temperature=temperature, seed=0)
        motion = predicted.reshape(-1, 68, 3)
        motion[:, 36:48] = subject.motion[frames, 36:48]
    background = None if composite else np.stack([torso_over_background(subject, frame) for frame in target.frames])
    cameras, eyes = subject.cameras[frames], subject.eye_openness[frames]
    return chosen.render(motion, cameras, eyes, background=background, end_threshold=end_threshold)


def trained_parts(subject_dir: Path) -> SubjectParts | None:
    """The networks of a subject folder that frames can be rendered with; None if no head is trained yet."""
    try:
        return find_parts(subject_dir, need_torso=False, need_speech=False)
    except InputError:
        return None


def score_render(
    target: Target,
    images: Iterable[Any],
    on_frame: Callable[[np.ndarray, np.ndarray], None] | None = None,
    *,
    faces: bool = True,
    perceptual: Perceptual | None = None,
) -> dict[str, Any]:
    """Scores rendered frames in pixels and, with MediaPipe on both, in landmarks.

    Args:
      images: one uint8 [H, W, 3] per target frame, iterated once.
      on_frame: called with (truth, image), both [size, size, 3], for every frame, for example to write a comparison video.
      faces: False omits the landmark scores, which need MediaPipe.

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
            if on_frame is not None:
                on_frame(truth, image)
    return {"pixels": scores.summary(), "landmarks": landmark_summary(*tracks) if faces else None}


def _target(subject: Subject, frames: range, size: int | None) -> Target:
    if subject.is_light or subject.landmarks_mediapipe is None:
        raise InputError(f"{subject.folder} is a light copy without frames: evaluate on the full dataset that `geneface prepare` makes.")
    if len(frames) == 0:
        raise InputError(f"{subject.folder} has no held-out frames: prepare a longer video.")
    return Target(subject, frames, size or subject.size)


def _smoothed_landmarks(subject: Subject) -> Float[np.ndarray, "T 478 3"]:
    """Pixels by MediaPipe's video mode for one face; the dataset's landmarks in frames where it finds none."""
    with landmark_tracks(1, filtered=True) as (track,):
        for frame in range(subject.n_frames):
            track.add(subject.frames([frame])[0])
    return np.where(track.found[:, None, None], track.points, subject.landmarks_mediapipe)


def torso_over_background(subject: Subject, frame: int) -> UInt8[np.ndarray, "H W 3"]:
    """The dataset's torso picture of a frame over its background: what a head alone is rendered over."""
    torso = subject.torso([frame])[0].astype(np.float32)
    alpha = torso[..., 3:] / 255.0
    return np.rint(torso[..., :3] * alpha + subject.background * (1.0 - alpha)).astype(np.uint8)


def heldout_sound(target: Target) -> Float32[np.ndarray, " N"] | None:
    """Audio of the target frames at 16 kHz; None if the dataset holds no audio.wav or it is silent."""
    path = target.subject.folder / "audio.wav"
    try:
        samples = load_audio(path)
    except InputError:
        return None
    return samples[target.frames.start * SAMPLE_RATE // FPS : target.frames.stop * SAMPLE_RATE // FPS]
