"""Video in and out through ffmpeg: decoded frames as a stream, scene cuts, writing videos and image folders frame by frame."""

import contextlib
import dataclasses
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import cv2
import numpy as np

from data_tools.audio.sound import SAMPLE_RATE, load_audio, save_wav
from data_tools.encoder import EncoderOptions, check_output, codec_arguments
from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, file_argument, first_error_line, input_arguments, require_plain_file

# ----------------------------------------------------------------------------------------------------
# Streaming video decoder on ffmpeg (resampled, trimmed, cropped and scaled, or unchanged), and scene cut detection.

FPS = 25
"""Frame rate of every dataset."""

SQUARE_PIXELS = "scale=w='if(gt(sar,0)*not(eq(sar,1)),trunc(iw*sar/2)*2,iw)':h=ih"
"""Filter that scales anamorphic video to square pixels, which face measurements assume; other video passes through unchanged."""


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
    """Yields the video's frames as uint8 [height, width, 3] RGB, rotation applied.

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
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *seek, *input_arguments(path), "-map", "0:V:0"]
    command += ["-vf", ",".join(filters), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    length = width * height * 3
    count = 0
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, bufsize=length)
        assert process.stdout is not None
        try:
            while len(data := process.stdout.read(length)) == length:
                count += 1
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            failed = process.wait() != 0
        finally:
            process.stdout.close()
            process.kill()
            process.wait()
        if failed or not count:
            reason = first_error_line(messages, "no frame was decoded")
            raise InputError(f"{Path(path)} can't be decoded after frame {count} ({reason}): export the video again.")


def read_video(path: str | os.PathLike[str], fps: float | None = None) -> Generator[np.ndarray, None, None]:
    """Yields a video's frames as uint8 [H, W, 3] RGB, rotation applied.

    Args:
      path: a local video file.
      fps: resample to this frame rate; None keeps the file's frames.

    Raises:
      InputError: the file is missing or ffmpeg can't read it to its end.
    """
    path = require_plain_file(path)
    filters = [] if fps is None else ["-vf", f"fps={fps}"]
    # PPM frames include their size, so the file need not be probed first.
    command = [ffmpeg_executable(), "-nostdin", "-v", "error", *input_arguments(path), "-map", "0:V:0", *filters]
    command += ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        count = 0
        try:
            while (frame := _read_ppm(process.stdout)) is not None:
                count += 1
                yield frame
            if process.wait() != 0 or count == 0:
                raise InputError(f"ffmpeg could not read {path} as a video ({first_error_line(log)}): give another file.")
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _read_ppm(stream) -> np.ndarray | None:
    """Reads one binary PPM image as written by ffmpeg (three header lines); None at the end of the stream."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # 255
    data = stream.read(3 * width * height)
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


def check_cuts(path: str | os.PathLike, thumbnails: list[np.ndarray], rate: float, start: float = 0.0) -> None:
    """Rejects a clip with several scenes; arguments as for `find_cuts`.

    Raises:
      InputError: there is a cut; the sentence names its time and the `--trim` of the longest scene.
    """
    cuts = find_cuts(path, thumbnails, rate, start)
    if not cuts:
        return
    borders = [start, *cuts, start + len(thumbnails) / rate]
    first, end = max(zip(borders[:-1], borders[1:], strict=True), key=lambda scene: scene[1] - scene[0])
    named = ", ".join(f"{time:.2f}" for time in cuts[:5]) + (f" and {len(cuts) - 5} more" if len(cuts) > 5 else "")
    raise InputError(
        f"The video cuts to another scene at {named} s: keep one scene (the longest is `--trim {first:.2f}-{end:.2f}`), or use a video "
        "without cuts."
    )


# ----------------------------------------------------------------------------------------------------
# Writes videos frame by frame through an ffmpeg process.
#
# Opaque videos are H.264 + AAC in mp4 with the index in front (faststart), which every browser plays; videos with alpha are VP9 + Opus in
# webm, or a folder of PNGs. Colors are converted to BT.709 and tagged, so that players do not have to guess.

Sound = str | os.PathLike[str] | np.ndarray | None
"""A media file whose first audio stream is used, samples [n] in -1 .. 1 at 16 kHz, or None for no audio track."""


class VideoWriter:
    """Context manager that writes a video frame by frame; the file appears under its name only when complete.

    The audio is cut, or padded with silence, to exactly the length of the video.

    Args:
      path: the mp4 file to write, or with alpha a webm; its folder is created.
      audio: see `Sound`.
      fps: frames per second.
      options: encoder options.
      alpha: whether frames are RGBA, with alpha not premultiplied.
      sound_start: seconds of the media file at which its audio begins.

    Attributes:
      count: frames written so far.

    Raises:
      InputError: on entry if the name does not fit (`encoder.check_output`); on exit if there was no frame or ffmpeg failed.
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
    ) -> None:
        self.path, self.count = Path(path), 0
        self._audio, self._fps, self._options, self._alpha = audio, fps, options or EncoderOptions(), alpha
        self._sound_start = sound_start
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._muxed = self._partial.with_suffix(".muxed")
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> "VideoWriter":
        check_output(self.path, self._options, self._alpha)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._log = tempfile.TemporaryFile()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends one uint8 [H, W, 3] RGB (with alpha: [H, W, 4]) frame; the first one sets the size, which must be even.

        Raises:
          InputError: an odd size, or ffmpeg stopped.
          ValueError: size or dtype differ from the first frame's.
        """
        if self._process is None:
            self._start(frame)
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"frame {self.count} is {frame.dtype} {frame.shape}, not uint8 {self._shape}")
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError as error:
            self._process.wait()
            raise self._failure() from error
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._process is not None:
                self._process.kill()
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
                self._process.wait()
            self._log.close()
            for leftover in (self._partial, self._muxed, self._partial.with_suffix(".wav")):
                leftover.unlink(missing_ok=True)

    @property
    def _container(self) -> list[str]:
        return ["-f", "webm"] if self._alpha else ["-movflags", "+faststart", "-f", "mp4"]

    def _start(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            raise InputError(f"Frames of {width}x{height} pixels can't be stored in {self.path}: give an even width and height.")
        self._shape = (height, width, 4 if self._alpha else 3)
        command = [ffmpeg_executable(), "-nostdin", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgba" if self._alpha else "rgb24"]
        command += ["-s", f"{width}x{height}", "-r", f"{self._fps}", "-i", "pipe:0", *codec_arguments(self._options, self._alpha)]
        command += [*self._container, file_argument(self._partial)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log)

    def _finish(self) -> None:
        if self._process is None:
            raise InputError(f"There is not a single frame to write to {self.path}: give a longer audio or video.")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._failure()
        if self._audio is not None:
            self._add_sound()
        os.replace(self._partial, self.path)

    def _add_sound(self) -> None:
        """Copies the finished video stream and encodes the audio to its exact length, which is known only at the end.

        ffmpeg's -shortest would need only one pass, but is off by up to three AAC frames.
        """
        audio = self._audio
        if isinstance(audio, np.ndarray):
            audio = self._partial.with_suffix(".wav")
            save_wav(audio, self._audio, SAMPLE_RATE)
        seek = ["-ss", f"{self._sound_start:.3f}"] if self._sound_start else []
        command = [ffmpeg_executable(), "-nostdin", "-v", "error", "-y", *input_arguments(self._partial), *seek, *input_arguments(audio)]
        command += ["-map", "0:v:0", "-c:v", "copy", "-map", "1:a:0", "-af", "apad", "-t", f"{self.count / self._fps:.6f}"]
        command += ["-c:a", "libopus" if self._alpha else "aac", "-b:a", "128k", "-ar", "48000"]
        command += [*self._container, file_argument(self._muxed)]
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log, check=False).returncode != 0:
            raise self._failure()
        os.replace(self._muxed, self._partial)

    def _failure(self) -> InputError:
        return InputError(f"ffmpeg could not write {self.path} ({first_error_line(self._log)}): check disk space and encoder options.")


class ImageFolderWriter:
    """`VideoWriter` for a folder of RGBA images `%06d.png` and, with audio, `audio.wav` (16 kHz mono, as long as the video).

    The folder appears under its name only when complete, replacing an earlier one.

    Raises:
      InputError: on entry if the name does not fit (`encoder.check_output`); on exit if there was no frame or the audio can't be read.
    """

    def __init__(self, path: str | os.PathLike[str], audio: Sound, fps: float = 25, *, sound_start: float = 0.0) -> None:
        self.path, self.count = Path(path), 0
        self._audio, self._fps, self._sound_start = audio, fps, sound_start
        self._partial = self.path.absolute().with_name(f".{self.path.name}.{os.getpid()}.partial")

    def __enter__(self) -> "ImageFolderWriter":
        check_output(self.path, EncoderOptions(), alpha=True)
        self._partial.mkdir(parents=True)
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends one uint8 [H, W, 4] RGBA frame, alpha not premultiplied."""
        data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA))[1]
        (self._partial / f"{self.count:06d}.png").write_bytes(data.tobytes())
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        if not self.count:
            raise InputError(f"There is not a single frame to write to {self.path}: give a longer audio or video.")
        if self._audio is not None:
            samples = self._audio if isinstance(self._audio, np.ndarray) else load_audio(self._audio)
            samples = samples[round(self._sound_start * SAMPLE_RATE) :]
            length = round(self.count / self._fps * SAMPLE_RATE)
            save_wav(self._partial / "audio.wav", np.pad(samples, (0, max(length - len(samples), 0)))[:length])
        old = self._partial.with_suffix(".old")
        if self.path.is_dir():
            os.rename(self.path, old)
        os.rename(self._partial, self.path)
        shutil.rmtree(old, ignore_errors=True)


def open_writer(
    path: str | os.PathLike[str],
    audio: Sound,
    fps: float = 25,
    options: EncoderOptions | None = None,
    *,
    alpha: bool = False,
    sound_start: float = 0.0,
) -> VideoWriter | ImageFolderWriter:
    """Selects the writer by name: an `ImageFolderWriter` for frames with alpha and a name without extension, else a `VideoWriter`."""
    if alpha and not Path(path).suffix:
        return ImageFolderWriter(path, audio, fps, sound_start=sound_start)
    return VideoWriter(path, audio, fps, options, alpha=alpha, sound_start=sound_start)


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    audio: Sound,
    fps: float = 25,
    options: EncoderOptions | None = None,
    *,
    alpha: bool = False,
    sound_start: float = 0.0,
) -> int:
    """Writes all frames through `open_writer` (same arguments and errors); returns the number of frames."""
    with open_writer(path, audio, fps, options, alpha=alpha, sound_start=sound_start) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.count
