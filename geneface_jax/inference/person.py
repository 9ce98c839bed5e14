"""Synthesis: a trained `Person` speaks a recording, which makes a `TalkingVideo`; motion plans, rendering, folders of recordings."""

import base64
import contextlib
import dataclasses
import html
import logging
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from data_tools.audio.sound import FPS, SAMPLE_RATE, SoundTrack, check_samples, load_track, save_wav
from data_tools.command_line import bar
from data_tools.encoder import check_output
from data_tools.errors import InputError
from data_tools.ffmpeg import SOUND_SUFFIXES, VIDEO_SUFFIXES
from data_tools.io import require_output, write_folder, write_json
from data_tools.video import write_video
from geneface_jax.data.subject import Subject, feature_types_of, require_same_dataset, require_same_features
from geneface_jax.inference import provenance
from geneface_jax.inference.audio_features import audio_features_of
from geneface_jax.inference.controls import PRECISIONS, TRANSPARENT, Controls, sampling_options
from geneface_jax.inference.motion import AudioToMotion, orbit, pose_track, shape_motion
from geneface_jax.inference.motion_filters import UNCHANGED_MOUTH, loudness, silence_weight
from geneface_jax.inference.pictures import load_background, resize, with_badge
from geneface_jax.inference.provenance import provenance_of, stamper
from geneface_jax.inference.renderer import Renderer, open_renderer
from geneface_jax.io.compilation_cache import keep_programs
from geneface_jax.io.person_folder import SubjectParts, find_parts
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.typing import Float

logger = logging.getLogger(__name__)

# -------- A person in memory, and a recording as a video of that person

MIN_SECONDS = 0.2
"""Five video frames: shorter than any syllable."""

DISPLAY_SECONDS = 60.0
"""Longest video that a notebook renders by itself."""

ProgressCallback = Callable[[int, int], None]
"""Called as progress(frames done, frames in all)."""


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


@dataclasses.dataclass(frozen=True, repr=False)
class Person:
    """A trained person: dataset and networks in memory, for any number of recordings.

    ```python
    import geneface_jax as gf

    person = gf.Person.load("demo")
    person.speak("speech.wav", gf.Controls(mouth_amp=0.5)).save("talk.mp4")
    ```

    Attributes:
      parts: the folder and the networks that were found in it.
      subject: the dataset.
      speech: audio features -> motion.
      renderer: motion -> pictures.
      precision: of the renderer's weights, "fp32" or "bf16".
    """

    parts: SubjectParts
    subject: Subject
    speech: AudioToMotion
    renderer: Renderer
    precision: str = "fp32"

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, precision: str = "fp32") -> "Person":
        """Reads a person's dataset and newest networks (of the PostNet the selected checkpoint), a few seconds.

        Args:
          folder: the person's folder, with `dataset/` (a light one is enough) and the networks that `person_folder.find_parts` looks
            for; or the name of a shipped person, "demo".
          precision: "fp32", or "bf16" for half the memory.

        Raises:
          InputError: there is no such person, a part is missing, not trained yet or damaged, or the parts don't belong together.
        """
        if precision not in PRECISIONS:
            raise InputError(f"precision is {precision!r}: choose {', '.join(PRECISIONS)}.")
        return open_person(find_parts(folder), precision)

    @property
    def name(self) -> str:
        """Name of the person."""
        return self.subject.name

    @property
    def size(self) -> int:
        """Height and width of the pictures in pixels, as trained."""
        return self.subject.size

    def speak(
        self, audio: str | os.PathLike[str] | np.ndarray, controls: Controls | None = None, track: int | None = None
    ) -> "TalkingVideo":
        """Predicts the motion for a recording; the frames are rendered when the result is saved or iterated.

        Args:
          audio: speech in any audio or video file, of any length; or [N] samples at 16 kHz in -1..1.
          controls: of motion and picture (docs/inference.md); their `precision` is replaced by the person's.
          track: number of the file's sound track, from 1; None takes the first that is not silent.

        Raises:
          InputError: a control out of range, or audio that is missing, silent or shorter than 0.2 s.
        """
        controls = dataclasses.replace(controls or Controls(), precision=self.precision).validate()
        sampling_options(self.parts, controls)
        if not isinstance(audio, np.ndarray):
            return self._speak(*load_track(audio, SAMPLE_RATE, min_seconds=MIN_SECONDS, track=track), controls)
        check_samples(audio, "The recording", SAMPLE_RATE, MIN_SECONDS)
        return self._speak(np.asarray(audio, np.float32), None, controls)

    def _speak(self, samples: Float[np.ndarray, " N"], sound: SoundTrack | None, controls: Controls) -> "TalkingVideo":
        return TalkingVideo(self, controls, samples, sound, plan_motion(self, samples, controls))

    def __repr__(self) -> str:
        seconds = self.subject.n_frames / self.subject.fps
        return f"Person({self.name!r}: {self.parts.speech}, {self.parts}; {self.size}x{self.size}, {seconds:.0f} s of video)"


@dataclasses.dataclass(frozen=True, repr=False)
class TalkingVideo:
    """A recording as a video of a person, 25 frames per second: iterate over its frames, or save it.

    Iterating renders the frames again each time, in constant memory. A notebook shows the video.

    Attributes:
      person, controls: what it is made with.
      samples: the recording at 16 kHz, in -1..1.
      sound: track of the file whose sound the saved video gets; None stands for `samples`.
      plan: the renderer's inputs.
    """

    person: Person
    controls: Controls
    samples: Float[np.ndarray, " N"]
    sound: SoundTrack | None
    plan: MotionPlan

    @property
    def motion(self) -> Float[np.ndarray, "T 68 3"]:
        """The 68 landmarks' displacement from the mean face, 10 x decimeters, in the head's frame, as rendered."""
        return self.plan.motion

    @property
    def landmarks(self) -> Float[np.ndarray, "T 68 3"]:
        """Positions of the 68 landmarks in the head's frame, in decimeters."""
        return self.plan.motion / 10.0 + self.person.subject.mean_face

    @property
    def seconds(self) -> float:
        """Duration: the recording's, rounded up to a whole frame."""
        return len(self) / FPS

    @property
    def networks(self) -> str:
        """Names of the stages that make it."""
        return f"{self.person.parts.speech}, {self.person.parts}"

    def __len__(self) -> int:
        """Number of frames."""
        return self.plan.frames

    def __iter__(self) -> Iterator[np.ndarray]:
        """Renders the frames, one at a time: uint8 [size, size, 3], or RGBA with `bg="transparent"`. Raises as `render_frames`."""
        return render_frames(self.person, self.plan, self.controls)

    def save(
        self,
        out: str | os.PathLike[str],
        *,
        progress: ProgressCallback | bool = False,
        debug: str | os.PathLike[str] | None = None,
    ) -> Path:
        """Renders the video and writes it with its sound; an mp4 gets provenance metadata.

        Args:
          out: the mp4 to write; with `bg="transparent"` a webm, or a folder of PNGs.
          progress: True draws a progress bar on stderr; a function is called after every frame.
          debug: folder for the intermediate results (`write_intermediates`).

        Returns:
          `out`.

        Raises:
          InputError: `out` does not fit the controls, or as `render_frames`. A file that was there before is kept then.
        """
        self._write(out, progress, debug)
        return Path(out)

    def _write(self, out: str | os.PathLike[str], progress: ProgressCallback | bool, debug: str | os.PathLike[str] | None) -> float | None:
        """`save`; returns the frames per second (see `InferenceResult`)."""
        out, controls = Path(out), self.controls
        check_output(out, controls, controls.bg == TRANSPARENT, ask_alpha="--bg transparent")
        require_output(debug, folder=True, replaced=True, option="--debug")
        if debug is not None:
            write_intermediates(debug, self.person, self.samples, self.plan, controls)
        with bar(total=len(self), unit="frame", desc="rendering", leave=False, disable=progress is not True) as drawn:
            report = progress if callable(progress) else lambda *_: drawn.update()
            times: list[float] = []
            frames = _report_progress(self, len(self), report, times)
            sound = self.samples if self.sound is None else self.sound
            finish = stamper(out, provenance_of(self.person.parts, self.person.subject.meta))
            write_video(out, frames, sound, FPS, controls, alpha=controls.bg == TRANSPARENT, finish=finish)
        return (len(times) - 1) / max(times[-1] - times[0], 1e-9) if len(times) > 1 else None

    def __repr__(self) -> str:
        return f"TalkingVideo({self.person.name!r}, {len(self)} frames, {self.seconds:.2f} s)"

    def _repr_html_(self) -> str:
        """The video as HTML, for notebooks."""
        if self.seconds > DISPLAY_SECONDS:
            return f'<code>{html.escape(repr(self))}</code>: more than {DISPLAY_SECONDS:.0f} s, use <code>.save("talk.mp4")</code>'
        suffix = "webm" if self.controls.bg == TRANSPARENT else "mp4"
        with tempfile.TemporaryDirectory() as folder:
            data = base64.b64encode(self.save(Path(folder) / f"talk.{suffix}").read_bytes()).decode()
        return f'<video controls src="data:video/{suffix};base64,{data}"></video>'


def open_person(parts: SubjectParts, precision: str = "fp32") -> Person:
    """Reads the networks that `person_folder.find_parts` found; `render_frames` needs controls of the same precision.

    Raises:
      InputError: a stage is damaged, or networks and dataset do not belong together.
    """
    keep_programs()
    subject = Subject.load(parts.folder / "dataset")
    speech = open_speech(parts, subject)
    require_same_features(f"the {parts.speech} of {parts.folder}", speech.kind, "its dataset", feature_types_of(subject.meta))
    return Person(parts, subject, speech, open_renderer(parts, subject=subject, precision=precision), precision)


# -------- One call: from a person's folder and a recording to a file


@dataclasses.dataclass(frozen=True)
class InferenceResult:
    """The video.

    Attributes:
      path: of the file or folder.
      seconds: duration.
      frames: number of frames.
      networks: the stages that made it.
      frames_per_second: speed from the first frame to the last one, so without reading the networks and compiling; the frames were
        encoded meanwhile. None of a single frame.
    """

    path: Path
    seconds: float
    frames: int
    networks: str = ""
    frames_per_second: float | None = None


def infer(
    subject_dir: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    out: str | os.PathLike[str],
    controls: Controls | None = None,
    *,
    progress: ProgressCallback | bool = False,
    debug: str | os.PathLike[str] | None = None,
    track: int | None = None,
) -> InferenceResult:
    """Makes a video of a trained person speaking a recording: `Person.load`, `Person.speak` and `TalkingVideo.save`.

    What is wrong with the arguments is found before the networks are read.

    Args:
      subject_dir: as `Person.load`.
      audio, controls, track: as `Person.speak`.
      out, progress, debug: as `TalkingVideo.save`.

    Raises:
      InputError: as these three.
    """
    controls = (controls or Controls()).validate()
    check_output(Path(out), controls, controls.bg == TRANSPARENT, ask_alpha="--bg transparent")
    require_output(debug, folder=True, replaced=True, option="--debug")
    parts = find_parts(subject_dir)
    sampling_options(parts, controls)
    samples, sound = load_track(audio, SAMPLE_RATE, min_seconds=MIN_SECONDS, track=track)
    person = open_person(parts, controls.precision)
    with ThreadPoolExecutor(1) as pool:  # the renderer's programs are compiled, or read, while the speech is heard
        pool.submit(_warm_up, person, controls)
        video = person._speak(samples, sound, controls)
    return _saved(video, out, progress, debug)


def _warm_up(person: Person, controls: Controls) -> None:
    """Renders the first frame of the training video, after which nothing is left to compile. What is wrong with `controls` is said by the
    first frame that is wanted."""
    subject = person.subject
    cameras, motion = subject.cameras[:1], subject.motion[:1]
    plan = MotionPlan(motion.reshape(1, -1), motion, subject.eye_openness[:1], cameras, orbit(cameras, controls.orbit))
    with contextlib.suppress(InputError):
        next(render_frames(person, plan, controls))


def _saved(
    video: TalkingVideo, out: str | os.PathLike[str], progress: ProgressCallback | bool, debug: str | os.PathLike[str] | None = None
) -> InferenceResult:
    rate = video._write(out, progress, debug)
    return InferenceResult(Path(out), video.seconds, len(video), video.networks, rate)


# -------- The steps: motion of a recording, frames of a motion


def plan_motion(person: Person, samples: Float[np.ndarray, " N"], controls: Controls) -> MotionPlan:
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


def render_frames(person: Person, plan: MotionPlan, controls: Controls) -> Generator[np.ndarray, None, None]:
    """Renders a motion plan, one frame at a time.

    A smaller size than the trained one is rendered directly, a larger one only with `rays="full"`: else its frames are enlarged. A person
    with super-resolution is always rendered as trained.

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
    options = sampling_options(person.parts, controls)
    transparent = controls.bg == TRANSPARENT
    if transparent:
        options["transparent"] = True
    size = rendered_size = controls.size or subject.size
    if person.parts.head == "head_sr" or (size > subject.size and controls.rays != "full"):
        rendered_size = subject.size
    if rendered_size != subject.size:
        options["size"] = rendered_size
    rendered = person.renderer.render(
        plan.motion,
        plan.head_cameras,
        plan.eye_openness,
        background=None if transparent else load_background(controls.bg, rendered_size),
        torso_cameras=plan.cameras,
        **options,
    )
    for frame in rendered:
        frame = resize(frame, size, size)
        yield with_badge(frame) if controls.badge == "corner" else frame


def open_speech(parts: SubjectParts, subject: Subject) -> AudioToMotion:
    """A subject's speech-to-motion networks: PostNet with its VAE, or a VAE alone. Raises as `AudioToMotion.load`, and
    InputError if the PostNet was trained on another dataset."""
    if parts.speech == "postnet":
        speech = AudioToMotion.load(parts.folder / "postnet")
        require_same_dataset(f"the postnet in {parts.folder / 'postnet'}", speech.trained_on, subject)
        return speech
    expression = None if subject.expression_basis is None else (subject.expression_basis, subject.expression_offset)
    return AudioToMotion.load_corpus_model(parts.folder / "audio2motion", expression=expression)


def output_cameras(subject: Subject, n_frames: int, pose: str) -> Float[np.ndarray, "T 4 4"]:
    """Camera path of the output; "video" and "still" use poses of training frames only. Raises as `pose_track`."""
    source = subject.cameras[: subject.n_train] if pose in ("video", "still") else subject.cameras
    return pose_track(source, n_frames, pose)


def _report_progress(frames: Iterable[np.ndarray], n_frames: int, progress: ProgressCallback, times: list[float]) -> Iterator[np.ndarray]:
    """Passes frames on; adds to `times` when each was rendered, in seconds of a clock."""
    for i, frame in enumerate(frames):
        times.append(time.perf_counter())
        yield frame
        progress(i + 1, n_frames)


# -------- Intermediate results as files (`geneface infer --debug DIR`)

ARRAYS, LANDMARKS, SOUND, SETTINGS = "script.npz", "landmarks.mp4", "audio.wav", "settings.json"


def write_intermediates(
    folder: str | os.PathLike[str], person: Person, samples: Float[np.ndarray, " N"], plan: MotionPlan, controls: Controls
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

SHOWN = 20
"""Names of left out files that are shown."""


def recordings(folder: str | os.PathLike[str]) -> tuple[list[Path], list[Path]]:
    """The audio and video files of a folder, and what else is in it (subfolders too, but nothing hidden), both sorted by name.

    Raises:
      InputError: there is no recording, or two names differ only in their suffix, so that both would make the same video.
    """
    folder = Path(folder)
    everything = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = [path for path in everything if path.is_file() and path.suffix.lower() in SOUND_SUFFIXES | VIDEO_SUFFIXES]
    if not found:
        raise InputError(f"The folder {folder} holds no recording: put wav, mp3, ogg, flac, m4a or video files there.")
    stems: dict[str, Path] = {}
    for path in found:
        if (other := stems.setdefault(path.stem, path)) is not path:
            raise InputError(f"{other.name} and {path.name} in {folder} would both make {path.stem}.mp4: rename one of them.")
    return found, [path for path in everything if path not in found]


def _name_left_out(paths: list[Path]) -> None:
    """Logs the files of a folder that were not used."""
    for path in paths[:SHOWN]:
        reason = "folders in a folder are not looked into" if path.is_dir() else "its name does not end like that of a recording or video"
        logger.warning("%s was left out: %s", path.name, reason)
    if len(paths) > SHOWN:
        logger.warning("%d more were left out for the same reasons", len(paths) - SHOWN)


def infer_folder(
    subject_dir: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    controls: Controls | None = None,
    *,
    progress: ProgressCallback | bool = False,
) -> Iterator[tuple[Path, InferenceResult | InputError]]:
    """Makes `OUT_DIR/NAME.mp4` (with `bg="transparent"`: .webm) of every recording NAME.* of a folder, as `infer` does for one.

    The networks are read once. A recording that fails does not stop the others. What else is in the folder is named in the log at the end.

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
    (found, left_out), out_dir = recordings(folder), Path(out_dir)
    if out_dir.is_file() or out_dir.suffix.lower() in (".mp4", ".webm"):
        raise InputError(f"--out {out_dir} names a file, but {folder} is a folder of recordings: give a folder for their videos.")
    require_output(out_dir, folder=True)
    person = open_person(find_parts(subject_dir), controls.precision)
    suffix = ".webm" if controls.bg == TRANSPARENT else ".mp4"
    for path in found:
        try:
            yield path, _saved(person.speak(path, controls), out_dir / f"{path.stem}{suffix}", progress)
        except InputError as error:
            yield path, error
    _name_left_out(left_out)
