"""Writes videos frame by frame through an ffmpeg process.

Opaque videos are H.264 + AAC in mp4 with the index in front (faststart), which every browser plays; videos with alpha are VP9 + Opus in
webm, or a folder of PNGs. Colors are converted to BT.709 and tagged, so that players do not have to guess.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

import cv2
import numpy as np

from data_tools.audio.sound import SAMPLE_RATE, load_audio, save_wav
from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, file_argument, first_error_line, input_arguments
from data_tools.video.encoder import EncoderOptions, check_output, codec_arguments

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
