"""Synthesis: audio in, talking video out (`infer`); opening a person, motion plans, rendering, folders of recordings, debug files."""

import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import numpy as np

from data_tools.audio.sound import FPS, SAMPLE_RATE, load_audio, save_wav
from data_tools.encoder import check_output
from data_tools.errors import InputError
from data_tools.io import write_folder, write_json
from data_tools.video import write_video
from geneface_jax.data.subject import Subject, feature_types_of, require_same_features
from geneface_jax.inference import provenance
from geneface_jax.inference.audio_features import audio_features_of
from geneface_jax.inference.controls import TRANSPARENT, Controls, sampling_options
from geneface_jax.inference.motion import AudioToMotion, orbit, pose_track, shape_motion
from geneface_jax.inference.motion_filters import UNCHANGED_MOUTH, loudness, silence_weight
from geneface_jax.inference.pictures import load_background, resize, with_badge
from geneface_jax.inference.provenance import provenance_of, stamp
from geneface_jax.inference.renderer import Renderer, open_renderer
from geneface_jax.io.person_folder import SubjectParts, find_parts
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.typing import Float

# -------- Audio to video: speech to landmarks, landmarks to frames, frames to mp4, one frame in memory at a time

MIN_SECONDS = 0.2
"""Five video frames: shorter than any syllable."""

ProgressCallback = Callable[[int, int], None]
"""Called as progress(frames done, frames in all)."""


@dataclasses.dataclass(frozen=True)
class InferenceResult:
    """The video: path, duration in s, number of frames, and the networks that made it."""

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
    progress: ProgressCallback | None = None,
    debug: str | os.PathLike[str] | None = None,
) -> InferenceResult:
    """Makes a video of a trained person speaking a recording.

    Args:
      subject_dir: `SUBJECT` with `dataset/` (a light one is enough) and the networks that `person_folder.find_parts` looks for.
      audio: speech in any audio or video file; may be longer than the training video.
      out: the mp4 to write (with `bg="transparent"` a webm, or a folder of PNGs), with the audio; its duration is the audio's, rounded up
        to a whole frame.
      controls: see `Controls`.
      progress: called after every frame.
      debug: folder for the intermediate results (`write_intermediates`).

    Raises:
      InputError: a control out of range, a part of the subject missing, or audio that is missing, silent or shorter than 0.2 s.
    """
    controls = (controls or Controls()).validate()
    _check_output(Path(out), controls)
    parts = find_parts(subject_dir)
    sampling_options(parts, controls)
    samples = load_audio(audio, SAMPLE_RATE, min_seconds=MIN_SECONDS)
    return _infer(open_person(parts, controls.precision), samples, audio, Path(out), controls, progress, debug)


def infer_open(
    person: "OpenPerson",
    audio: str | os.PathLike[str],
    out: str | os.PathLike[str],
    controls: Controls,
    *,
    progress: ProgressCallback | None = None,
    debug: str | os.PathLike[str] | None = None,
) -> InferenceResult:
    """`infer` for a person whose networks are in memory; arguments and errors as there."""
    controls.validate()
    _check_output(Path(out), controls)
    return _infer(person, load_audio(audio, SAMPLE_RATE, min_seconds=MIN_SECONDS), audio, Path(out), controls, progress, debug)


def _infer(
    person: "OpenPerson",
    samples: Float[np.ndarray, " N"],
    audio: str | os.PathLike[str],
    out: Path,
    controls: Controls,
    progress: ProgressCallback | None,
    debug: str | os.PathLike[str] | None,
) -> InferenceResult:
    parts = person.parts
    plan = plan_motion(person, samples, controls)
    if debug is not None:
        write_intermediates(debug, person, samples, plan, controls)
    frames = _report_progress(render_frames(person, plan, controls), plan.frames, progress)
    write_video(out, frames, audio, FPS, controls, alpha=controls.bg == TRANSPARENT)
    if out.suffix.lower() == ".mp4":
        stamp(out, provenance_of(parts, person.subject.meta))
    return InferenceResult(out, plan.frames / FPS, plan.frames, f"{parts.speech}, {parts}")


def _check_output(out: Path, controls: Controls) -> None:
    check_output(out, controls, controls.bg == TRANSPARENT, ask_alpha="--bg transparent")


@dataclasses.dataclass(frozen=True)
class OpenPerson:
    """A person's networks in memory, for any number of recordings; `precision` is that of the renderer's weights."""

    parts: SubjectParts
    subject: Subject
    speech: AudioToMotion
    renderer: Renderer
    precision: str = "fp32"


@dataclasses.dataclass(frozen=True)
class MotionPlan:
    """The renderer's inputs for T frames.

    Attributes:
      predicted: motion as predicted by the networks.
      motion: `predicted` after the motion controls, as it is rendered.
      eye_openness: of every frame.
      cameras: camera to world of the head as filmed; torso and background follow it.
      head_cameras: the same with the orbit of the free viewpoint.
    """

    predicted: Float[np.ndarray, "T 204"]
    motion: Float[np.ndarray, "T 68 3"]
    eye_openness: Float[np.ndarray, " T"]
    cameras: Float[np.ndarray, "T 4 4"]
    head_cameras: Float[np.ndarray, "T 4 4"]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.motion)


def open_person(parts: SubjectParts, precision: str = "fp32") -> OpenPerson:
    """Reads the networks that `person_folder.find_parts` found; `render_frames` needs controls of the same precision.

    Raises:
      InputError: a stage is damaged, or networks and dataset do not belong together.
    """
    subject = Subject.load(parts.folder / "dataset")
    speech = open_speech(parts, subject)
    require_same_features(f"the {parts.speech} of {parts.folder}", speech.kind, "its dataset", feature_types_of(subject.meta))
    return OpenPerson(parts, subject, speech, open_renderer(parts, precision=precision), precision)


def plan_motion(person: OpenPerson, samples: Float[np.ndarray, " N"], controls: Controls) -> MotionPlan:
    """Motion, eyes and cameras for a recording at 16 kHz in -1..1. The controls must be validated.

    Raises:
      InputError: HuBERT's weights are missing, other features than the dataset's, or a pose range outside the video.
    """
    n_frames = -(-len(samples) * FPS // SAMPLE_RATE)
    subject, speech, folder = person.subject, person.speech, person.parts.folder
    cameras = output_cameras(subject, n_frames, controls.pose)
    features, f0 = audio_features_of(subject.meta, f"the dataset of {folder}").compute(samples, n_frames)
    if features.shape[1] != subject.audio_features.shape[1]:
        raise InputError(
            f"The dataset of {folder} has audio features of {subject.audio_features.shape[1]} channels, but the recording's have "
            f"{features.shape[1]}: use the same audio model (1024 channels are those of the large HuBERT)."
        )
    predicted = speech.predict(features, f0, temperature=controls.temperature, seed=controls.seed, mouth_amp=controls.mouth_amp)
    # The network has already applied the mouth amplitude if it is conditioned on it.
    shaping = dataclasses.replace(controls, mouth_amp=UNCHANGED_MOUTH) if speech.follows_mouth_amp else controls
    motion, eye_openness = shape_motion(predicted, subject, shaping, loudness(samples, n_frames))
    return MotionPlan(predicted, motion, eye_openness, cameras, orbit(cameras, controls.orbit))


def render_frames(person: OpenPerson, plan: MotionPlan, controls: Controls) -> Generator[np.ndarray, None, None]:
    """Renders a motion plan, one frame at a time.

    Torso and background keep the filmed viewpoint under `--orbit`; the head rotates about its own axis and stays over its neck.

    Yields:
      uint8 [size, size, 3], or [size, size, 4] RGBA with `bg="transparent"`.

    Raises:
      InputError: at the first frame; a control that the person's renderer does not have, a precision other than the person was opened
        with, or an unreadable background.
    """
    subject = person.subject
    if controls.precision != person.precision:
        raise InputError(
            f"--precision is {controls.precision}, but the networks of {person.parts.folder} were opened in {person.precision}: "
            "give open_person the same precision."
        )
    sampling = sampling_options(person.parts, controls)
    transparent = controls.bg == TRANSPARENT
    background = None if transparent else load_background(controls.bg, subject.size)
    alpha = {"transparent": True} if transparent else {}
    rendered = person.renderer.render(
        plan.motion,
        plan.head_cameras,
        plan.eye_openness,
        background=background,
        torso_cameras=plan.cameras,
        **sampling,
        **alpha,
    )
    size = controls.size or subject.size
    for frame in rendered:
        frame = resize(frame, size, size)
        yield with_badge(frame) if controls.badge == "corner" else frame


def open_speech(parts: SubjectParts, subject: Subject) -> AudioToMotion:
    """A subject's speech-to-motion networks: PostNet with its VAE, or a VAE alone. Raises as `AudioToMotion.load`."""
    if parts.speech == "postnet":
        return AudioToMotion.load(parts.folder / "postnet")
    expression = None if subject.expression_basis is None else (subject.expression_basis, subject.expression_offset)
    return AudioToMotion.load_corpus_model(parts.folder / "audio2motion", expression=expression)


def output_cameras(subject: Subject, n_frames: int, pose: str) -> Float[np.ndarray, "T 4 4"]:
    """Camera path of the output; "video" and "still" use poses of training frames only. Raises as `pose_track`."""
    source = subject.cameras[: subject.n_train] if pose in ("video", "still") else subject.cameras
    return pose_track(source, n_frames, pose)


def _report_progress(frames: Iterable[np.ndarray], n_frames: int, progress: ProgressCallback | None) -> Iterator[np.ndarray]:
    for i, frame in enumerate(frames):
        yield frame
        if progress is not None:
            progress(i + 1, n_frames)


# -------- Intermediate results as files (`geneface infer --debug DIR`)

ARRAYS, LANDMARKS, SOUND, SETTINGS = "script.npz", "landmarks.mp4", "audio.wav", "settings.json"


def write_intermediates(
    folder: str | os.PathLike[str], person: OpenPerson, samples: Float[np.ndarray, " N"], plan: MotionPlan, controls: Controls
) -> Path:
    """Writes the inputs and results of `plan_motion` into a folder, which is replaced if it exists.

    `audio.wav`: the recording, 16 kHz mono. `landmarks.mp4`: the landmarks as predicted, as rendered, and of the training video.
    `settings.json`: all controls, the networks, their hash. `script.npz`, float32 over T frames: `audio_features` [2T, C], `f0` [2T],
    `predicted` [T, 204], `motion` [T, 68, 3] (as rendered), `eye_openness` [T], `cameras`, `head_cameras` [T, 4, 4], `loudness` [T] dB,
    `silence` [T] (weight of the closed mouth).
    """
    subject = person.subject
    features, f0 = audio_features_of(subject.meta, f"the dataset of {person.parts.folder}").compute(samples, plan.frames)
    level = loudness(samples, plan.frames)
    arrays = {
        "audio_features": features,
        "f0": f0,
        "predicted": plan.predicted,
        "motion": plan.motion,
        "eye_openness": plan.eye_openness,
        "cameras": plan.cameras,
        "head_cameras": plan.head_cameras,
        "loudness": level,
        "silence": silence_weight(level, controls.silence_db),
    }
    training_motion = np.resize(subject.motion, (plan.frames, 68, 3))
    origin = provenance.provenance_of(person.parts, subject.meta)

    def fill(temporary: Path) -> None:
        save_wav(temporary / SOUND, samples)
        np.savez(temporary / ARRAYS, **{name: np.asarray(array, np.float32) for name, array in arrays.items()})
        motions = [plan.predicted, plan.motion, training_motion]
        panels = landmark_frames(motions, ["network", "drawn", "training video"], subject.mean_face)
        write_video(temporary / LANDMARKS, panels, samples, FPS)
        networks = f"{person.parts.speech}, {person.parts}"
        write_json(
            temporary / SETTINGS, {"controls": dataclasses.asdict(controls), "networks": networks, "provenance": dataclasses.asdict(origin)}
        )

    return write_folder(folder, fill)


# -------- Folders of recordings

SOUNDS = (".wav", ".mp3", ".ogg", ".flac", ".m4a", ".aac", ".opus", ".webm", ".mp4", ".mov", ".mkv")


def recordings(folder: str | os.PathLike[str]) -> list[Path]:
    """The audio and video files of a folder without its subfolders, sorted by name.

    Raises:
      InputError: there is none, or two names differ only in their suffix, so that both would make the same video.
    """
    folder = Path(folder)
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SOUNDS and not path.name.startswith("."))
    if not found:
        raise InputError(f"The folder {folder} holds no recording: put wav, mp3, ogg, flac, m4a or video files there.")
    stems: dict[str, Path] = {}
    for path in found:
        if (other := stems.setdefault(path.stem, path)) is not path:
            raise InputError(f"{other.name} and {path.name} in {folder} would both make {path.stem}.mp4: rename one of them.")
    return found


def infer_folder(
    subject_dir: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    controls: Controls | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Iterator[tuple[Path, InferenceResult | InputError]]:
    """Makes `OUT_DIR/NAME.mp4` (with `bg="transparent"`: .webm) of every recording NAME.* of a folder, as `infer` does for one.

    The networks are read once. A recording that fails does not stop the others.

    Args:
      subject_dir, controls, progress: as `infer`; progress restarts with every recording.
      folder: the recordings.
      out_dir: folder of the videos, created if missing. Videos of the same names are replaced.

    Yields:
      each recording with its video, or with the error.

    Raises:
      InputError: at the first recording; as `recordings`, or the person or the controls can't be used.
    """
    controls = (controls or Controls()).validate()
    found, out_dir = recordings(folder), Path(out_dir)
    if out_dir.is_file() or out_dir.suffix.lower() in (".mp4", ".webm"):
        raise InputError(f"--out {out_dir} names a file, but {folder} is a folder of recordings: give a folder for their videos.")
    person = open_person(find_parts(subject_dir), controls.precision)
    suffix = ".webm" if controls.bg == TRANSPARENT else ".mp4"
    for path in found:
        try:
            yield path, infer_open(person, path, out_dir / f"{path.stem}{suffix}", controls, progress=progress)
        except InputError as error:
            yield path, error
