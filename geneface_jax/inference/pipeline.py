"""Audio in, talking video out: speech to landmarks, landmarks to frames, frames to mp4, one frame in memory at a time."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE, load_audio
from geneface_jax.data.data_kind import kind_of, require_same
from geneface_jax.data.subject import Subject
from geneface_jax.errors import InputError
from geneface_jax.inference.audio_features import audio_features_of
from geneface_jax.inference.background import load_background
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.motion_controls import shape_motion
from geneface_jax.inference.motion_filters import UNCHANGED_MOUTH
from geneface_jax.inference.open_renderer import open_renderer
from geneface_jax.inference.poses import orbit, pose_track
from geneface_jax.inference.resize import resize
from geneface_jax.inference.sampling_controls import sampling_options
from geneface_jax.inference.silence import loudness
from geneface_jax.inference.subject_parts import SubjectParts, find_parts
from geneface_jax.inference.video import write_video

MIN_SECONDS = 0.2
"""Five video frames: shorter than any syllable."""

Progress = Callable[[int, int], None]
"""Called as progress(frames done, frames in all)."""


@dataclasses.dataclass(frozen=True)
class InferenceResult:
    """The video made: where, how long (s), how many frames, and the networks that drew it."""

    path: Path
    seconds: float
    frames: int
    networks: str = ""


def infer(
    subject_dir: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    out: str | os.PathLike[str],
    controls: Controls | None = None,
    *,
    progress: Progress | None = None,
) -> InferenceResult:
    """Makes a video of a trained person saying what is heard in a recording.

    Args:
      subject_dir: `SUBJECT` with `dataset/` (a light one is enough) and the networks that `subject_parts.find_parts` looks for.
      audio: speech in any audio or video file; may be longer than the training video.
      out: the mp4 to write; it lasts as long as the audio, rounded up to a whole frame, and carries the audio itself.
      controls: see `Controls`.
      progress: called after every frame.

    Raises:
      InputError: a control out of range, a part of the subject missing, or audio that is missing, silent or shorter than 0.2 s.
    """
    controls = (controls or Controls()).validate()
    out = Path(out)
    if out.suffix.lower() != ".mp4":
        raise InputError(f"--out is {out}; give a file name that ends in .mp4")
    parts = find_parts(subject_dir)
    sampling = sampling_options(parts, controls)
    samples = load_audio(audio, SAMPLE_RATE, min_seconds=MIN_SECONDS)
    subject_dir = Path(subject_dir)
    subject = Subject.load(subject_dir / "dataset")
    background = load_background(controls.bg, subject.size)
    n_frames = -(-len(samples) * FPS // SAMPLE_RATE)
    cameras = output_cameras(subject, n_frames, controls.pose)

    speech = open_speech(parts, subject)
    require_same(f"the {parts.speech} of {subject_dir}", speech.kind, "its dataset", kind_of(subject.meta))
    features, f0 = audio_features_of(subject.meta, f"the dataset of {subject_dir}").compute(samples, n_frames)
    if features.shape[1] != subject.audio_features.shape[1]:
        raise InputError(
            f"the dataset of {subject_dir} has audio features of {subject.audio_features.shape[1]} channels but these have "
            f"{features.shape[1]}: use the same audio model, for HuBERT the large one where the dataset has 1024"
        )
    motion = speech.predict(features, f0, temperature=controls.temperature, seed=controls.seed, mouth_amp=controls.mouth_amp)
    # A mouth that the network has already moved as asked is not scaled again.
    shaping = dataclasses.replace(controls, mouth_amp=UNCHANGED_MOUTH) if speech.follows_mouth_amp else controls
    motion, eye_openness = shape_motion(motion, subject, shaping, loudness(samples, n_frames))

    renderer = open_renderer(parts)
    # Torso and background are pictures: they keep the view they were filmed from, and a head that turns on its spot stays over its neck.
    swung = orbit(cameras, controls.orbit)
    frames = renderer.render(motion, swung, eye_openness, background=background, torso_cameras=cameras, **sampling)
    size = controls.size or subject.size
    write_video(out, _finish(frames, size, n_frames, progress), audio, FPS, controls)
    return InferenceResult(out, n_frames / FPS, n_frames, f"{parts.speech}, {parts}")


def open_speech(parts: SubjectParts, subject: Subject) -> AudioToMotion:
    """The networks that make a subject's motion: its PostNet with the VAE it carries, or a VAE alone.

    Raises as `AudioToMotion.load`.
    """
    if parts.speech == "postnet":
        return AudioToMotion.load(parts.folder / "postnet")
    expression = None if subject.expression_basis is None else (subject.expression_basis, subject.expression_offset)
    return AudioToMotion.load_corpus_model(parts.folder / "audio2motion", expression=expression)


def output_cameras(subject: Subject, n_frames: int, pose: str) -> np.ndarray:
    """[n_frames, 4, 4] camera path; "video" and "still" look at training frames only, since no others were trained on.

    Raises as `pose_track`.
    """
    source = subject.cameras[: subject.n_train] if pose in ("video", "still") else subject.cameras
    return pose_track(source, n_frames, pose)


def _finish(frames: Iterable[np.ndarray], size: int, n_frames: int, progress: Progress | None) -> Iterator[np.ndarray]:
    for i, frame in enumerate(frames):
        yield resize(frame, size, size)
        if progress is not None:
            progress(i + 1, n_frames)
