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
from geneface_jax.inference.poses import pose_track
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.inference.resize import resize
from geneface_jax.inference.silence import loudness
from geneface_jax.inference.video import write_video

MIN_SECONDS = 0.2
"""Five video frames: shorter than any syllable."""

Progress = Callable[[int, int], None]
"""Called as progress(frames done, frames in all)."""


@dataclasses.dataclass(frozen=True)
class InferenceResult:
    """The video made: where, how long (s), how many frames."""

    path: Path
    seconds: float
    frames: int


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
      subject_dir: `SUBJECT` with `dataset/` (a light one is enough), `postnet/`, `head/` and `torso/`.
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
    check_parts(subject_dir)
    samples = load_audio(audio, SAMPLE_RATE, min_seconds=MIN_SECONDS)
    subject_dir = Path(subject_dir)
    subject = Subject.load(subject_dir / "dataset")
    background = load_background(controls.bg, subject.size)
    n_frames = -(-len(samples) * FPS // SAMPLE_RATE)
    cameras = output_cameras(subject, n_frames, controls.pose)

    speech = AudioToMotion.load(subject_dir / "postnet")
    require_same(f"the postnet of {subject_dir}", speech.kind, "its dataset", kind_of(subject.meta))
    features, f0 = audio_features_of(subject.meta, f"the dataset of {subject_dir}").compute(samples, n_frames)
    motion = speech.predict(features, f0, temperature=controls.temperature, seed=controls.seed, mouth_amp=controls.mouth_amp)
    # A mouth that the network has already moved as asked is not scaled again.
    shaping = dataclasses.replace(controls, mouth_amp=UNCHANGED_MOUTH) if speech.follows_mouth_amp else controls
    motion, eye_openness = shape_motion(motion, subject, shaping, loudness(samples, n_frames))

    renderer = SubjectRenderer.load(subject_dir)
    frames = renderer.render(motion, cameras, eye_openness, background=background, end_threshold=controls.end_threshold)
    size = controls.size or subject.size
    write_video(out, _finish(frames, size, n_frames, progress), audio, FPS, controls)
    return InferenceResult(out, n_frames / FPS, n_frames)


def check_parts(subject_dir: str | os.PathLike[str]) -> None:
    """Checks that a subject folder holds the dataset and the three stages inference needs.

    Raises:
      InputError: names the first that is missing and the command that makes it.
    """
    folder = Path(subject_dir)
    if not folder.is_dir():
        raise InputError(f"there is no subject folder {folder}; make one with `geneface fit VIDEO --out {folder}`")
    if not (folder / "dataset").is_dir():
        raise InputError(f"{folder} has no dataset/; make it with `geneface prepare VIDEO --out {folder}`")
    for stage in ("postnet", "head", "torso"):
        if not (folder / stage / "checkpoints").is_dir():
            raise InputError(
                f"{folder} has no trained {stage}/; make it with `geneface train --config configs/{stage}.py:demo --workdir "
                f"{folder / stage}` or go on with `geneface fit VIDEO --out {folder}`"
            )


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
