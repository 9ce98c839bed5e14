"""Video in and out through ffmpeg: decoded frames as a stream, scene cuts, writing videos and image folders frame by frame."""

import contextlib
import dataclasses
import math
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from data_tools.audio.sound import SAMPLE_RATE, SoundTrack, find_sound, load_audio, save_wav
from data_tools.encoder import EncoderOptions, check_output, codec_arguments
from data_tools.errors import InputError
from data_tools.ffmpeg import Process, file_argument, input_arguments, patience_for, require_plain_file
from data_tools.io import atomic_folder, atomic_path
from data_tools.picture import correcting_filters

# ----------------------------------------------------------------------------------------------------
# Streaming video decoder on ffmpeg (resampled, trimmed, cropped and scaled, or unchanged), and scene cut detection.

FPS = 25
"""Frame rate of every dataset."""

MIN_SECONDS = 3.0
"""Shortest clip that a dataset is made of."""

SQUARE_PIXELS = "scale=w='if(gt(sar,0)*not(eq(sar,1)),trunc(iw*sar/2)*2,iw)':h=ih"
"""Filter that scales anamorphic video to square pixels, which face measurements assume; other video passes through unchanged."""

EXACT_COLORS = "scale=flags=bicubic+accurate_rnd+full_chroma_int"
"""Filter that converts to RGB without ffmpeg's default shortcuts, which darken a picture by 1.2 levels."""

MAX_PIXELS = ("-max_pixels", f"{8192 * 8192}")
"""Input option that refuses larger pictures before they are decoded; an 8K video has half as many pixels."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A square in source pixels: left and top (even, because of chroma subsampling), and side."""

    x: int
    y: int
    size: int


def frames(
    path: str | os.PathLike,
    size: tuple[int, int],
    *,
    crop: Box | None = None,
    trim: tuple[float, float] | None = None,
    fps: float = FPS,
) -> Generator[np.ndarray, None, None]:
    """Yields the video's frames as uint8 [height, width, 3] RGB in BT.709, rotation applied, corrected as `picture.corrections` says.

    Args:
      path: the video.
      size: (width, height) of the result; scaled by area averaging, or bicubically if a crop is enlarged.
      crop: applied before scaling.
      trim: seconds (start, end) of the source.
      fps: frame rate of the result; frames are duplicated or dropped.

    Raises:
      InputError: no frame could be decoded, or ffmpeg stopped with an error.
    """
    width, height = size
    # start_time=0 duplicates the first frame if the video starts later than the audio: frame i is always at i / fps seconds of the file.
    filters = [f"fps={fps}:start_time=0", SQUARE_PIXELS]
    if crop is not None:
        filters.append(f"crop={crop.size}:{crop.size}:{crop.x}:{crop.y}:exact=1")
    enlarged = crop is not None and crop.size < width
    filters.append(f"scale={width}:{height}:flags={'bicubic' if enlarged else 'area'}+accurate_rnd+full_chroma_int")
    seek = ["-ss", f"{trim[0]:.3f}", "-t", f"{trim[1] - trim[0]:.3f}"] if trim else []
    command = [*seek, *MAX_PIXELS, *input_arguments(path), "-map", "0:V:0"]
    length = width * height * 3
    count = 0
    with contextlib.ExitStack() as stack:
        first, last, folder = stack.enter_context(correcting_filters(path))
        command += ["-vf", ",".join([*first, *filters, *last]), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
        process = stack.enter_context(Process(command, patience=patience_for(path), folder=folder))
        while len(data := process.read(length)) == length:
            count += 1
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        if not process.finish() or not count:
            reason = process.complaint("no frame was decoded")
            raise InputError(f"{Path(path)} can't be decoded after frame {count} ({reason}): export the video again.")


def read_video(path: str | os.PathLike[str], fps: float | None = None) -> Generator[np.ndarray, None, None]:
    """Yields a video's frames as uint8 [H, W, 3] RGB in BT.709, rotation applied, corrected as `picture.corrections` says.

    Args:
      path: a local video file.
      fps: resample to this frame rate; None keeps the file's frames.

    Raises:
      InputError: the file is missing or ffmpeg can't read it to its end.
    """
    path = require_plain_file(path)
    # To keep every frame, they are numbered, and so slowly (one in 1000 s) that the length of the last one is no frame: the option for
    # it, -vsync or -fps_mode, has another name in each ffmpeg.
    rate, output_rate = (f"fps={fps}", []) if fps is not None else ("settb=1000,setpts=N", ["-r", "1/1000"])
    # PPM frames include their size, so the file need not be probed first.
    command = [*MAX_PIXELS, *input_arguments(path), "-map", "0:V:0"]
    count = 0
    with contextlib.ExitStack() as stack:
        first, last, folder = stack.enter_context(correcting_filters(path))
        command += ["-vf", ",".join([*first, rate, EXACT_COLORS, *last]), *output_rate]
        command += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"]
        process = stack.enter_context(Process(command, patience=patience_for(path), folder=folder))
        while (frame := _read_ppm(process)) is not None:
            count += 1
            yield frame
        if not process.finish() or not count:
            raise InputError(f"ffmpeg could not read {path} as a video ({process.complaint()}): give another file.")


def _read_ppm(process: Process) -> np.ndarray | None:
    """Reads one binary 8-bit PPM image as written by ffmpeg (three header lines); None at the end of the stream."""
    if process.read_line() != b"P6\n":
        return None
    width, height = map(int, process.read_line().split())
    if process.read_line() != b"255\n":
        return None
    data = process.read(3 * width * height)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == 3 * width * height else None


# -------- Scene cut detection: in thumbnails taken a few times a second, then refined to the frame

THUMBNAIL = 32
"""Pixels per side of the compared thumbnails."""

SAME_SCENE = 0.6
"""Correlation from which on two thumbnails show the same scene. A talking head with a fixed camera stays above 0.9 over a fifth of a
second, two scenes are mostly below 0.4."""

CHANGE = 10.0
"""Mean difference in levels (of 255) below which there is no cut at any correlation."""

FLAT = 3.0
"""Standard deviation in levels below which a thumbnail shows no scene (black before a fade-in)."""


def with_thumbnails(images: Iterable[np.ndarray], thumbnails: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Passes images through and appends a uint8 [32, 32, 3] thumbnail of each to `thumbnails`."""
    for image in images:
        thumbnails.append(cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
        yield image


def cuts_between(thumbnails: list[np.ndarray]) -> list[int]:
    """Indices i of thumbnails that show another scene than i - 1; a change of brightness alone is not a cut."""
    if len(thumbnails) < 2:
        return []
    flat = np.stack(thumbnails).reshape(len(thumbnails), -1).astype(np.float64)
    spread, centered = flat.std(1), flat - flat.mean(1, keepdims=True)
    correlation = (centered[1:] * centered[:-1]).mean(1) / np.maximum(spread[1:] * spread[:-1], 1e-9)
    change = np.abs(np.diff(flat, axis=0)).mean(1)
    has_content = np.minimum(spread[1:], spread[:-1]) > FLAT
    return [int(i) + 1 for i in np.flatnonzero((correlation < SAME_SCENE) & (change > CHANGE) & has_content)]


def find_cuts(path: str | os.PathLike, thumbnails: list[np.ndarray], rate: float, start: float = 0.0) -> list[float]:
    """Seconds at which a new scene begins.

    A change between two thumbnails counts only if it occurs between two consecutive frames: a quick camera pan is not a cut.

    Args:
      path: the video.
      thumbnails: taken `rate` times per second.
      rate: per second.
      start: time of the first thumbnail in the video, in seconds.
    """
    times: list[float] = []
    for number in cuts_between(thumbnails):
        # Rounded to a frame, so that cut times are frame times.
        first = math.floor(max(start + (number - 1.5) / rate, 0.0) * FPS) / FPS
        nearby: list[np.ndarray] = []
        for _ in with_thumbnails(frames(path, (2 * THUMBNAIL, 2 * THUMBNAIL), trim=(first, first + 2.0 / rate)), nearby):
            pass
        times += [first + frame / FPS for frame in cuts_between(nearby)]
    # The intervals around neighboring thumbnails overlap.
    return sorted({round(time, 3) for time in times})


def trim_of_longest(stretches: Iterable[tuple[float, float]], least: float) -> str | None:
    """`--trim A-B` of the longest of some stretches, in seconds; None if even that is shorter than `least`, so that it would not help."""
    # Rounded inwards: a trim must not reach into what it is to avoid.
    first, end = max(
        ((math.ceil(a * 100) / 100, math.floor(b * 100 + 1e-6) / 100) for a, b in stretches), key=lambda pair: pair[1] - pair[0]
    )
    return f"--trim {first:.2f}-{end:.2f}" if end - first >= max(least, 1.0 / FPS) else None


def check_cuts(path: str | os.PathLike, thumbnails: list[np.ndarray], rate: float, start: float = 0.0, least: float = 0.0) -> None:
    """Rejects a clip with several scenes; arguments as for `find_cuts`, and `least` as for `trim_of_longest`.

    Raises:
      InputError: there is a cut; the sentence names its time and the `--trim` of the longest scene, if one is long enough.
    """
    cuts = find_cuts(path, thumbnails, rate, start)
    if not cuts:
        return
    borders = [start, *cuts, start + len(thumbnails) / rate]
    trim = trim_of_longest(zip(borders[:-1], borders[1:], strict=True), least)
    named = ", ".join(f"{time:.2f}" for time in cuts[:5]) + (f" and {len(cuts) - 5} more" if len(cuts) > 5 else "")
    if trim is None:
        raise InputError(f"The video cuts to another scene at {named} s, and no scene lasts {least:g} s: use a video without cuts.")
    raise InputError(
        f"The video cuts to another scene at {named} s: keep one scene (the longest is `{trim}`), or use a video without cuts."
    )


# ----------------------------------------------------------------------------------------------------
# Writes videos frame by frame through an ffmpeg process.
#
# Opaque videos are H.264 + AAC in mp4 with the index in front (faststart), which every browser plays; videos with alpha are VP9 + Opus in
# webm, or a folder of PNGs. Colors are converted to BT.709 and tagged, so that players do not have to guess.

Sound = str | os.PathLike[str] | SoundTrack | np.ndarray | None
"""A media file (its track is chosen by `find_sound`), a track of one, samples [n] in -1 .. 1 at 16 kHz, or None for no audio track."""

SOUND_RATE = 48000
"""Hz, of the sound in videos."""

MOST_WAITING, MOST_WAITING_BYTES = 8, 100_000_000
"""Frames that wait for ffmpeg at most: enough to even out an encoder that takes its time for some of them."""


class _Sender:
    """A thread that sends frames to an ffmpeg, so that whoever makes them can go on.

    Attributes:
      broken: what went wrong; further frames are not sent then.
    """

    def __init__(self, process: Process, frame_bytes: int) -> None:
        self.broken: Exception | None = None
        self._process = process
        self._waiting: queue.Queue[np.ndarray | None] = queue.Queue(max(min(MOST_WAITING, MOST_WAITING_BYTES // max(frame_bytes, 1)), 1))
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def send(self, frame: np.ndarray) -> None:
        """Adds a frame, which may be changed afterwards; waits while `MOST_WAITING` of them have not been sent."""
        self._waiting.put(np.array(frame, order="C"))

    def end(self) -> None:
        """Returns when everything is sent, or something went wrong."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (frame := self._waiting.get()) is not None:
            # After a failure frames are taken all the same: a caller must not wait for a thread that has ended.
            if self.broken is None:
                try:
                    self._process.write(frame.data)
                except Exception as error:
                    self.broken = error


class VideoWriter:
    """Context manager that writes a video frame by frame; the file appears under its name only when complete.

    ffmpeg encodes while the caller makes further frames, of which `MOST_WAITING` wait at most. The audio is cut, or padded with
    silence, to exactly the length of the video.

    Args:
      path: the mp4 file to write, or with alpha a webm; its folder is created.
      audio: see `Sound`.
      fps: frames per second.
      options: encoder options.
      alpha: whether frames are RGBA, with alpha not premultiplied.
      sound_start: seconds of the media file at which its audio begins.
      finish: called with the complete file before it gets its name, for what must be in every file of that name (provenance).

    Attributes:
      count: frames accepted so far.

    Raises:
      InputError: on entry if the name does not fit (`encoder.check_output`) or there is no sound in `audio`; on exit if there was no
        frame or ffmpeg failed and no `write` said so.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        audio: Sound,
        fps: float = 25,
        options: EncoderOptions | None = None,
        *,
        alpha: bool = False,
        sound_start: float = 0.0,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        self.path, self.count = Path(path), 0
        self._audio, self._fps, self._options, self._alpha = audio, fps, options or EncoderOptions(), alpha
        self._sound_start, self._finishing = sound_start, finish
        self._stack = contextlib.ExitStack()
        self._partial = self.path  # a temporary name once the writer is entered
        self._process: Process | None = None
        self._shape: tuple[int, ...] = ()
        self._sender: _Sender | None = None

    def __enter__(self) -> "VideoWriter":
        check_output(self.path, self._options, self._alpha)
        if isinstance(self._audio, str | os.PathLike):
            self._audio = find_sound(self._audio)
        with contextlib.ExitStack() as stack:
            self._partial = stack.enter_context(atomic_path(self.path))
            self._stack = stack.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends one uint8 [H, W, 3] RGB (with alpha: [H, W, 4]) frame; the first one sets the size, which must be even.

        Raises:
          InputError: an odd size, or ffmpeg stopped, which may be at an earlier frame.
          ValueError: size or dtype differ from the first frame's.
        """
        process, sender = self._started(frame)
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"frame {self.count} is {frame.dtype} {frame.shape}, not uint8 {self._shape}")
        sender.send(frame)
        self._require_sent(process, sender)
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:  # renames the file, or deletes it if this block raises
            try:
                if error is None:
                    self._finish()
            finally:
                if self._process is not None:
                    self._process.kill()  # which ends what the sender waits for
                    if self._sender is not None:
                        self._sender.end()
                    self._process.stop()
                for helper in (self._beside(".muxed"), self._beside(".wav")):
                    with contextlib.suppress(OSError):
                        helper.unlink()
            if error is not None:
                raise error

    def _beside(self, suffix: str) -> Path:
        """A helper file, which is deleted with the partial one."""
        return self._partial.with_name(self._partial.name + suffix)

    @property
    def _container(self) -> list[str]:
        return ["-f", "webm"] if self._alpha else ["-movflags", "+faststart", "-f", "mp4"]

    def _started(self, frame: np.ndarray) -> tuple[Process, _Sender]:
        """ffmpeg and what sends it frames, started at the first one."""
        if self._process is not None and self._sender is not None:
            return self._process, self._sender
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            raise InputError(f"Frames of {width}x{height} pixels can't be stored in {self.path}: give an even width and height.")
        self._shape = (height, width, 4 if self._alpha else 3)
        command = ["-y", "-f", "rawvideo", "-pix_fmt", "rgba" if self._alpha else "rgb24"]
        command += ["-s", f"{width}x{height}", "-r", f"{self._fps}", "-i", "pipe:0", *codec_arguments(self._options, self._alpha)]
        command += [*self._container, file_argument(self._partial)]
        self._process = Process(command, feed=True)
        self._sender = _Sender(self._process, math.prod(self._shape))
        return self._process, self._sender

    def _finish(self) -> None:
        if self._process is None or self._sender is None:
            raise InputError(f"There is not a single frame to write to {self.path}: give a longer audio or video.")
        self._sender.end()
        self._require_sent(self._process, self._sender)
        if not self._process.finish():
            raise self._failure(self._process)
        if self._audio is not None:
            self._add_sound()
        if self._finishing is not None:
            self._finishing(self._partial)

    def _add_sound(self) -> None:
        """Copies the finished video stream and encodes the audio to its exact length, which is known only at the end.

        ffmpeg's -shortest would need only one pass, but is off by up to three AAC frames.
        """
        audio = self._audio
        if isinstance(audio, np.ndarray):
            audio = SoundTrack(self._beside(".wav"))
            save_wav(audio.path, self._audio, SAMPLE_RATE)
        seconds = self.count / self._fps
        seek = ["-ss", f"{self._sound_start:.3f}"] if self._sound_start else []
        command = ["-y", *input_arguments(self._partial), *seek, *input_arguments(audio.path)]
        command += ["-map", "0:v:0", "-c:v", "copy", "-map", f"1:a:{audio.index}", "-t", f"{seconds:.6f}"]
        # The filters of the samples that the lips were made from: late sound stays late, with silence before it.
        command += ["-af", ",".join([*audio.filters(SOUND_RATE, math.ceil((seconds + 1.0) * SOUND_RATE)), "apad"])]
        command += ["-c:a", "libopus" if self._alpha else "aac", "-b:a", "128k", "-ar", f"{SOUND_RATE}"]
        command += [*self._container, file_argument(self._beside(".muxed"))]
        if clock := audio.clock(1):
            command += ["-t", f"{seconds:.6f}", *clock]
        with Process(command, patience=patience_for(self._partial, audio.path)) as process:
            if not process.finish():
                raise self._failure(process)
        os.replace(self._beside(".muxed"), self._partial)

    def _require_sent(self, process: Process, sender: _Sender) -> None:
        if isinstance(sender.broken, BrokenPipeError):
            process.finish()
            raise self._failure(process) from sender.broken
        if sender.broken is not None:
            raise sender.broken

    def _failure(self, process: Process) -> InputError:
        return InputError(f"ffmpeg could not write {self.path} ({process.complaint()}): check disk space and encoder options.")


class ImageFolderWriter:
    """`VideoWriter` for a folder of RGBA images `%06d.png` and, with audio, `audio.wav` (16 kHz mono, as long as the video).

    The folder appears under its name only when complete, replacing an earlier one.

    Raises:
      InputError: on entry if the name does not fit (`encoder.check_output`) or the audio can't be read; on exit if there was no frame.
    """

    def __init__(self, path: str | os.PathLike[str], audio: Sound, fps: float = 25, *, sound_start: float = 0.0) -> None:
        self.path, self.count = Path(path), 0
        self._audio, self._fps, self._sound_start = audio, fps, sound_start
        self._stack = contextlib.ExitStack()
        self._partial = self.path  # a temporary name once the writer is entered

    def __enter__(self) -> "ImageFolderWriter":
        check_output(self.path, EncoderOptions(), alpha=True)
        if isinstance(self._audio, SoundTrack):
            self._audio = load_audio(self._audio.path, track=self._audio.index + 1)
        elif isinstance(self._audio, str | os.PathLike):
            self._audio = load_audio(self._audio)
        with contextlib.ExitStack() as stack:
            self._partial = stack.enter_context(atomic_folder(self.path))
            self._stack = stack.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends one uint8 [H, W, 4] RGBA frame, alpha not premultiplied."""
        data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA))[1]
        (self._partial / f"{self.count:06d}.png").write_bytes(data.tobytes())
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:  # renames the folder, or deletes it if this block raises
            if error is not None:
                raise error
            self._finish()

    def _finish(self) -> None:
        if not self.count:
            raise InputError(f"There is not a single frame to write to {self.path}: give a longer audio or video.")
        if self._audio is not None:
            samples = self._audio[round(self._sound_start * SAMPLE_RATE) :]
            length = round(self.count / self._fps * SAMPLE_RATE)
            save_wav(self._partial / "audio.wav", np.pad(samples, (0, max(length - len(samples), 0)))[:length])


def open_writer(
    path: str | os.PathLike[str],
    audio: Sound,
    fps: float = 25,
    options: EncoderOptions | None = None,
    *,
    alpha: bool = False,
    sound_start: float = 0.0,
    finish: Callable[[Path], None] | None = None,
) -> VideoWriter | ImageFolderWriter:
    """Selects the writer by name: an `ImageFolderWriter` for frames with alpha and a name without extension, else a `VideoWriter`."""
    if alpha and not Path(path).suffix:
        return ImageFolderWriter(path, audio, fps, sound_start=sound_start)
    return VideoWriter(path, audio, fps, options, alpha=alpha, sound_start=sound_start, finish=finish)


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    audio: Sound,
    fps: float = 25,
    options: EncoderOptions | None = None,
    *,
    alpha: bool = False,
    sound_start: float = 0.0,
    finish: Callable[[Path], None] | None = None,
) -> int:
    """Writes all frames through `open_writer` (same arguments and errors); returns the number of frames."""
    with open_writer(path, audio, fps, options, alpha=alpha, sound_start=sound_start, finish=finish) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.count
