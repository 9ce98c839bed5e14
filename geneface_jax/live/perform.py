"""A live talk without a server: sound from a file, a pipe or a microphone to pictures with sound, in order."""

import contextlib
import dataclasses
import itertools
import logging
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data_tools.audio.sound import FPS, SAMPLE_RATE, load_track
from data_tools.command_line import bar, flag
from data_tools.encoder import FIELDS, check_output
from data_tools.errors import InputError
from data_tools.ffmpeg import Process
from data_tools.io import atomic_path, require_output
from data_tools.video import write_video
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.person import MIN_SECONDS, InferenceResult, Person, open_person
from geneface_jax.inference.provenance import Provenance, provenance_of, stamper
from geneface_jax.inference.streaming import AVFrame, encode
from geneface_jax.io.person_folder import find_parts
from geneface_jax.live.rendering import FULL_LOAD, LOOK_FRAMES, LOOK_SECONDS, LiveRenderer, Pace, Stage, open_stage
from geneface_jax.live.sessions import LIVE_CONTROLS, MAX_AHEAD, Clock, Frame, Grid, Look, Talk
from geneface_jax.live.speech import STAGE, open_live_speech

logger = logging.getLogger(__name__)

PIECE = SAMPLE_RATE // 10
"""Samples that are taken from a recording at a time."""

ROOM = MAX_AHEAD / 2
"""Seconds of sound from which on a source that can wait has to."""


def pieces(samples: np.ndarray) -> Iterator[np.ndarray]:
    """A recording in pieces, as a microphone would give it."""
    for first in range(0, len(samples), PIECE):
        yield samples[first : first + PIECE]


def perform(stage: Stage, talk: Talk, sound: Iterable[np.ndarray]) -> Iterator[AVFrame]:
    """Every picture of a talk, as fast as they can be made: the pictures of a stream in which no sound is late.

    Args:
      stage, talk: `talk` is of the stage, with a cushion of 0.
      sound: samples at 16 kHz in -1..1, in pieces of at most half a second.
    """
    source, ended, batch = iter(sound), False, list[Frame]()
    while True:
        while not ended and talk.queued < ROOM:
            if (piece := next(source, None)) is not None:
                talk.hear(piece, 0.0)
            else:
                ended = True
                talk.flush(0.0)
            talk.think()
        done = ended and talk.quiet
        if not done:
            batch.append(talk.step())
        if batch and (done or len(batch) == stage.painter.batch):
            yield from zip(stage.painter.render(batch), (frame.sound for frame in batch), strict=True)
            batch.clear()
        if done:
            return


# -------- As a file (`geneface infer --live`)


def infer_live(
    subject_dir: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    out: str | os.PathLike[str],
    controls: Controls | None = None,
    *,
    track: int | None = None,
    progress: bool = False,
) -> InferenceResult:
    """Makes an mp4 of what a live session of a person shows of a recording, when no sound is late; the mouth shuts after its end.

    Args:
      subject_dir, audio, out, controls, track: as `person.infer`, but for controls that live sessions do not have.
      progress: whether a progress bar is drawn.

    Raises:
      InputError: as `person.infer`, such a control, or the person can't speak live.
    """
    controls = (controls or Controls()).validate()
    known = {*LIVE_CONTROLS, "size", *(field.name for field in FIELDS)}
    for field in dataclasses.fields(Controls):
        value = getattr(controls, field.name)
        if field.name not in known and value != field.default:
            raise InputError(
                f"{flag(field.name)} is {value}, which live speech does not have: leave it out, or make the video without --live."
            )
    check_output(out, controls, alpha=False)
    parts = find_parts(subject_dir)
    samples, sound = load_track(audio, SAMPLE_RATE, min_seconds=MIN_SECONDS, track=track)
    person = open_person(parts)
    frames, times = _offline(person, samples, controls), list[float]()
    with bar(total=-(-len(samples) * FPS // SAMPLE_RATE), unit="frame", desc="rendering", leave=False, disable=not progress) as drawn:

        def pictures() -> Iterator[np.ndarray]:
            for picture, _ in frames:
                times.append(time.perf_counter())
                yield picture
                drawn.update()

        finish = stamper(out, provenance_of(parts, person.subject.meta))
        count = write_video(out, pictures(), sound, FPS, controls, finish=finish)
    rate = (count - 1) / max(times[-1] - times[0], 1e-9) if count > 1 else None
    return InferenceResult(Path(out), count / FPS, count, f"{STAGE}, {parts}", rate)


def _offline(person: Person, samples: np.ndarray, controls: Controls) -> Iterator[AVFrame]:
    speech = open_live_speech(person)
    # What a picture costs is for those who can't wait.
    stage = Stage(person.name, Look(person.subject), LiveRenderer(person, controls.size), speech, 0.0, 0.0)
    return perform(stage, stage.talk(controls, cushion=0), pieces(samples))


# -------- At the speed of the clock


class Source(threading.Thread):
    """Feeds a talk from an iterator in a thread, no faster than it is spoken, and computes its motion.

    Args:
      stop: ends the talk when it is set: what is queued is still said.
    """

    def __init__(self, talk: Talk, sound: Iterable[np.ndarray], clock: Clock, stop: threading.Event):
        super().__init__(daemon=True, name="live sound")
        self._talk, self._sound, self._clock, self._stop_asked = talk, sound, clock, stop
        self.error: BaseException | None = None
        self.ended = False

    def run(self) -> None:
        talk = self._talk
        try:
            for piece in self._sound:
                while talk.queued > ROOM and not self._stop_asked.is_set():
                    time.sleep(0.02)
                if self._stop_asked.is_set():
                    break
                talk.hear(piece, self._clock.now())
                talk.think()
        except BaseException as error:  # raised by `perform_live` in the caller's thread
            self.error = error
        talk.flush(self._clock.now())
        while talk.think():
            pass
        self.ended = True


def perform_live(
    stage: Stage,
    talk: Talk,
    sound: Iterable[np.ndarray],
    *,
    stop: threading.Event,
    clock: Clock | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[AVFrame]:
    """A talk at the speed of the clock: 25 frames a second, each with its sound.

    A picture that can't be made in time is left out, and the one before it is shown again; on a machine that holds only 12.5 pictures a
    second, every second one. Sound is never left out.

    Args:
      stage, talk: `talk` is of the stage.
      sound: samples as they come; the iterator may block.
      stop: ends the talk.
      tell: called with a sentence when fewer pictures are shown from now on, or as many as at first again.

    Raises:
      Exception: any exception of `sound`, after what came before it was said.
    """
    clock = clock or Clock()
    source, grid = Source(talk, sound, clock, stop), Grid(clock)
    source.start()
    pace, busy, submitted, skipped = Pace(FPS, clock.now()), 0.0, 0, 0
    if stage.cost(FPS) > 1.0:
        pace.fall(clock.now())
    picture = stage.painter.render([talk.step()])[0]
    for number in itertools.count():
        time.sleep(max(grid.due() - clock.now(), 0.0))
        grid.tick()
        frame, ended = talk.step(), source.ended
        if number % pace.stride == 0:
            submitted += 1
            if grid.behind > pace.stride / FPS:
                skipped += 1
            else:
                began = clock.now()
                picture = stage.painter.render([frame])[0]
                busy += clock.now() - began
        if number % LOOK_FRAMES == LOOK_FRAMES - 1:
            room = busy / LOOK_SECONDS * pace.wanted / pace.fps <= FULL_LOAD
            if pace.judge(clock.now(), submitted, skipped, room=room):
                tell(pace.reason)
            busy, submitted, skipped = 0.0, 0, 0
        yield picture, frame.sound
        if ended and talk.quiet:
            break
    if source.error is not None:
        raise source.error


# -------- From and to devices (`geneface live`)

MIC, PIPE, DEVICE = "mic", "-", re.compile(r"/dev/video[0-9]+")
PIPE_BYTES = 3200
"""Bytes that are read from a pipe at a time: 0.1 s."""


def run_live(subject_dir: str | os.PathLike[str], input: str, output: str, controls: Controls) -> None:
    """A talk from the start to the end of its sound, or Ctrl-C: of a file to a file as fast as possible, else at the speed of the clock.

    Args:
      subject_dir: as `Person.load`.
      input: "mic", a recording, or "-": 16-bit samples at 16 kHz on the standard input.
      output: an mp4 file, "-" for fragmented mp4 on the standard output, or a virtual camera, /dev/videoN.
      controls: those that live sessions have.

    Raises:
      InputError: an input or output can't be used (found before anything is loaded), or the person can't speak live.
    """
    to_file = output != PIPE and not output.startswith("/dev/")
    if to_file and Path(output).suffix != ".mp4":
        raise InputError(f"--output is {output}: give a file that ends in .mp4, - or a virtual camera such as /dev/video10.")
    require_output(output if to_file else None, option="--output")
    _check_device(output)
    if to_file and input not in (MIC, PIPE):
        infer_live(subject_dir, input, output, controls, progress=True)
        return
    stop = threading.Event()
    if input == PIPE:
        sound = _pipe()
    else:
        sound = _microphone(SAMPLE_RATE, stop) if input == MIC else pieces(load_track(input, SAMPLE_RATE)[0])
    person = open_person(find_parts(subject_dir))
    stage = open_stage(person.name, person, open_live_speech(person), LiveRenderer(person, controls.size))
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    frames = perform_live(stage, stage.talk(controls), sound, stop=stop, tell=logger.warning)
    logger.info("%s is ready: speak. Ctrl-C ends.", person.name)
    if output.startswith("/dev/"):
        _to_device(output, frames, stage.painter.size)
    else:
        _write(output, frames, provenance_of(person.parts, person.subject.meta))


def _microphone(rate: int, stop: threading.Event) -> Iterator[np.ndarray]:
    """Samples of the default microphone, from the first `next` until `stop`.

    Raises:
      InputError: at once; there is no package, no library or no device for it.
    """
    heard: queue.Queue[np.ndarray] = queue.Queue()
    try:
        import sounddevice

        stream = sounddevice.InputStream(
            samplerate=rate, channels=1, dtype="float32", blocksize=rate // 50, callback=lambda data, *_: heard.put(data[:, 0].copy())
        )
    except ImportError as error:
        remedy = "run `pip install sounddevice` (the extra `mic`), or give --input FILE"
        raise InputError(f"The microphone needs the package sounddevice: {remedy}.") from error
    except Exception as error:  # PortAudio is missing, or there is no device, or it does not have this rate
        raise InputError(f"The microphone can't be opened ({error}): plug one in, install PortAudio, or give --input FILE.") from error

    def samples() -> Iterator[np.ndarray]:
        with stream:
            while not stop.is_set():
                with contextlib.suppress(queue.Empty):
                    yield heard.get(timeout=0.2)

    return samples()


def _pipe() -> Iterator[np.ndarray]:
    """Samples of the standard input, as they come."""
    rest = b""
    while data := sys.stdin.buffer.read1(PIPE_BYTES):  # type: ignore[union-attr]
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768.0


def _check_device(output: str) -> None:
    if output.startswith("/dev/") and not DEVICE.fullmatch(output):
        raise InputError(f"--output is {output}: a virtual camera has a name such as /dev/video10.")
    if DEVICE.fullmatch(output) and not Path(output).exists():
        raise InputError(f"There is no virtual camera {output}: run `sudo modprobe v4l2loopback video_nr={output[10:]}`.")


def _to_device(device: str, frames: Iterator[AVFrame], size: int) -> None:
    """Shows pictures on a virtual camera, which has no sound.

    Raises:
      InputError: the device does not take them.
    """
    command = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size}x{size}", "-r", f"{FPS}", "-i", "pipe:0"]
    with Process([*command, "-f", "v4l2", "-pix_fmt", "yuv420p", device], patience=float("inf"), feed=True) as process:
        try:
            for picture, _ in frames:
                process.write(np.ascontiguousarray(picture).data)
            process.end_input()
        except BrokenPipeError:
            pass
        if not process.finish():
            raise InputError(
                f"ffmpeg can't write to {device} ({process.complaint()}): is it a v4l2loopback device that nobody else writes to?"
            )


def _write(output: str, frames: Iterator[AVFrame], provenance: Provenance) -> None:
    """Writes fragmented mp4; a file gets its name at the end."""
    if output == PIPE:
        try:
            for chunk in encode(frames, provenance):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise InputError("Nobody reads the standard output any more: the stream was ended.") from None
        return
    with atomic_path(output) as path, path.open("wb") as file:
        file.writelines(encode(frames, provenance))
