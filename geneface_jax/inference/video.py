"""Video files in and out through an ffmpeg process, one frame at a time.

Results are H.264 + AAC in mp4 with the index in front, which every browser plays. Colours are converted and tagged as BT.709, so that
players do not guess.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from data_tools.audio.load import save_wav
from data_tools.video.ffmpeg import PROTOCOLS, ffmpeg_executable, file_argument
from geneface_jax.errors import InputError
from geneface_jax.inference.controls import Controls

SAMPLE_RATE = 16000
"""Rate of audio given as samples, Hz."""


class VideoWriter:
    """An mp4 being written, frame by frame; it appears under its name only when it is whole. Use as a context manager.

    The sound lasts exactly as long as the picture: it is cut, or padded with silence, to the number of frames.

    Args:
      path: the mp4 to write; its folder is made.
      audio: a media file whose first audio stream is taken, samples [n] in -1 .. 1 at 16 kHz, or None for no sound track.
      fps: frames per second.
      controls: encoder settings (crf, preset, pix_fmt, bitrate, maxrate, bufsize).

    Attributes:
      count: frames written so far.

    Raises:
      InputError: on entry when the name does not end in .mp4; on exit when there was no frame, or ffmpeg failed (its own complaint is in
        the sentence).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        audio: str | os.PathLike[str] | np.ndarray | None,
        fps: float = 25,
        controls: Controls | None = None,
    ) -> None:
        self.path, self.count = Path(path), 0
        self._audio, self._fps, self._controls = audio, fps, controls or Controls()
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._muxed = self._partial.with_suffix(".muxed")
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> VideoWriter:
        if self.path.suffix.lower() != ".mp4":
            raise InputError(f"the output {self.path} is not named .mp4; give a name that ends in .mp4")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._log = tempfile.TemporaryFile()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends one uint8 [H, W, 3] RGB frame; the first one fixes the size, which must be even.

        Raises:
          InputError: an odd size, or ffmpeg stopped.
          ValueError: another size or dtype than the first frame's.
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

    def _start(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            raise InputError(f"frames of {width}x{height} pixels can't be stored as H.264 in {self.path}; give an even size")
        command = [ffmpeg_executable(), *_encode_arguments(width, height, self._fps, self._controls, self._partial)]
        self._shape = (height, width, 3)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log)

    def _finish(self) -> None:
        if self._process is None:
            raise InputError(f"there is not a single frame to write to {self.path}; give a longer audio or video")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._failure()
        if self._audio is not None:
            self._add_sound()
        os.replace(self._partial, self.path)

    def _add_sound(self) -> None:
        """Copies the finished picture and encodes the sound to its exact length, which is only known now.

        ffmpeg's -shortest would do it in one pass, but misses the end by up to three AAC frames.
        """
        audio = self._audio
        if isinstance(audio, np.ndarray):
            audio = self._partial.with_suffix(".wav")
            save_wav(audio, self._audio, SAMPLE_RATE)
        command = [ffmpeg_executable(), *_mux_arguments(self._partial, audio, self.count / self._fps, self._muxed)]
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log, check=False).returncode != 0:
            raise self._failure()
        os.replace(self._muxed, self._partial)

    def _failure(self) -> InputError:
        return InputError(f"ffmpeg could not write {self.path}: {_reason(self._log)}; check the disk space and the encoder options")


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    audio: str | os.PathLike[str] | np.ndarray | None,
    fps: float = 25,
    controls: Controls | None = None,
) -> int:
    """Streams an iterable of frames through `VideoWriter`; arguments and errors as there. Returns the number of frames written."""
    with VideoWriter(path, audio, fps, controls) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.count


def read_video(path: str | os.PathLike[str], fps: float | None = None) -> Iterator[np.ndarray]:
    """Yields a video's frames as uint8 [H, W, 3] RGB; rotation is applied.

    Args:
      path: a video file on this machine.
      fps: resample to this frame rate; None keeps the file's own frames.

    Raises:
      InputError: the file is missing or ffmpeg can't read it to its end.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no video {path}; check the name")
    filters = [] if fps is None else ["-vf", f"fps={fps}"]
    # PPM frames carry their own size, so the file need not be probed first.
    command = [ffmpeg_executable(), "-nostdin", "-v", "error", *PROTOCOLS, "-i", file_argument(path)]
    command += ["-map", "0:v:0", *filters, "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
        count = 0
        try:
            while (frame := _read_ppm(process.stdout)) is not None:
                count += 1
                yield frame
            if process.wait() != 0 or count == 0:
                raise InputError(f"ffmpeg could not read {path} as a video: {_reason(log)}; give another file")
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _encode_arguments(width: int, height: int, fps: float, controls: Controls, out: Path) -> list[str]:
    """Raw RGB frames on standard input -> H.264."""
    command = [
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{width}x{height}",
        "-r",
        f"{fps}",
        "-i",
        "pipe:0",
    ]
    tags = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    command += ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,format={controls.pix_fmt},{tags}"]
    command += ["-c:v", "libx264", "-profile:v", "high" if controls.pix_fmt == "yuv420p" else "high444", "-preset", controls.preset]
    command += ["-crf", f"{controls.crf}"] if controls.bitrate is None else ["-b:v", controls.bitrate]
    for option, value in (("-maxrate", controls.maxrate), ("-bufsize", controls.bufsize)):
        command += [] if value is None else [option, value]
    return [*command, "-movflags", "+faststart", "-f", "mp4", file_argument(out)]


def _mux_arguments(picture: Path, audio: str | os.PathLike[str], seconds: float, out: Path) -> list[str]:
    """A film without sound and a recording -> both, cut or padded with silence to `seconds`."""
    command = ["-nostdin", "-v", "error", "-y", *PROTOCOLS, "-i", file_argument(picture), *PROTOCOLS, "-i", file_argument(audio)]
    command += ["-map", "0:v:0", "-c:v", "copy", "-map", "1:a:0", "-af", "apad", "-t", f"{seconds:.6f}"]
    command += ["-c:a", "aac", "-b:a", "128k", "-ar", "48000"]
    return [*command, "-movflags", "+faststart", "-f", "mp4", file_argument(out)]


def _read_ppm(stream) -> np.ndarray | None:
    """Reads one binary PPM picture as ffmpeg writes it (three header lines), or None at the end of the stream."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # 255
    data = stream.read(3 * width * height)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == 3 * width * height else None


def _reason(log) -> str:
    """The first thing ffmpeg complained about (what follows is its consequence), without the component's name in front."""
    log.seek(0)
    lines = [re.sub(r"^(\[[^\]]*\] *)+", "", line).strip() for line in log.read().decode("utf-8", "replace").splitlines()]
    return next((line.rstrip(".") for line in lines if line), "it stopped without a word")
