"""A video while it is being made: frames are encoded as they are rendered, and leave as pieces of a fragmented mp4.

    for piece in stream(person, samples, controls):
        response.write(piece)

A player needs no index at the end of such a file, so it starts with the first piece.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import IO

import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE
from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, first_complaint
from data_tools.video.encoder import EncoderOptions, codec_arguments
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.inference.pipeline import OpenPerson, direct, perform
from geneface_jax.inference.provenance import Provenance, provenance_of, uuid_box

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
FRAGMENT_SECONDS = 0.2
"""Length of one piece: five frames wait for each other, which is what a viewer waits for the first picture."""

KEY_FRAMES = 25
"""Frames from one key frame to the next: a player that joins late waits at most a second."""

QUICK = EncoderOptions(crf=20, preset="veryfast")
PIECE_BYTES = 1 << 16
WAITING_FRAMES = 8
"""Frames of sound that may wait for ffmpeg, so that a stalled reader stalls the rendering and no memory fills up."""

Moment = tuple[np.ndarray, np.ndarray]
"""A picture, uint8 [H, W, 3], and the [640] samples (16 kHz, -1..1) that are heard with it."""


def stream(person: OpenPerson, samples: np.ndarray, controls: Controls) -> Generator[bytes, None, None]:
    """Speaks a whole recording; the frames are those of `pipeline.infer`, the bytes arrive while they are rendered.

    Args:
      person: see `pipeline.open_person`.
      samples: [n] the recording at 16 kHz, in -1..1.
      controls: validated. The encoder's are left aside: a stream is made for speed.

    Yields:
      bytes of one fragmented mp4 (H.264 and AAC).

    Raises:
      InputError: `bg` is transparent, which mp4 can't hold, or as `pipeline.direct` and `pipeline.perform`.
    """
    if controls.bg == TRANSPARENT:
        raise InputError("--bg transparent can't be streamed, mp4 has no alpha channel; give a colour, or make a file")
    script = direct(person, samples, controls)
    sound = np.zeros(script.frames * SAMPLES_PER_FRAME, np.float32)
    sound[: len(samples)] = samples[: len(sound)]
    moments = zip(perform(person, script, controls), sound.reshape(-1, SAMPLES_PER_FRAME), strict=True)
    yield from encode(moments, provenance_of(person.parts, person.subject.meta))


def encode(moments: Iterable[Moment], provenance: Provenance | None = None) -> Generator[bytes, None, None]:
    """Encodes pictures with their sound while they come.

    Closing the generator ends ffmpeg, closes `moments` and leaves nothing behind.

    Args:
      moments: in order, 25 a second, all of one even size.
      provenance: what the file says about its origin; None says nothing.

    Yields:
      pieces of at most 64 KiB.

    Raises:
      InputError: there was no picture, or ffmpeg failed.
      Exception: whatever `moments` raised.
    """
    feeder = _Feeder(iter(moments))
    try:
        while piece := feeder.read():
            yield piece
        feeder.finish()
        if provenance is not None:
            yield uuid_box(provenance)
    finally:
        feeder.stop()


class _Feeder:
    """ffmpeg with two pipes in and one out. One thread renders and writes pictures, one writes sound, the caller reads.

    ffmpeg reads its inputs in its own order: whoever fed both pipes from one thread would wait for ever.
    """

    def __init__(self, moments: Iterator[Moment]):
        self._moments, self._log = moments, tempfile.TemporaryFile()
        self._process: subprocess.Popen | None = None
        self._sound: queue.Queue[bytes | None] = queue.Queue(WAITING_FRAMES)
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        first = next(moments, None)
        if first is None:
            raise InputError("there is not a single frame to stream; give a longer recording")
        reads, writes = os.pipe()
        try:
            self._process = subprocess.Popen(
                _command(first[0].shape, reads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, pass_fds=(reads,)
            )
        finally:
            os.close(reads)
        self._threads = [
            threading.Thread(target=self._feed_pictures, args=(first,), daemon=True),
            threading.Thread(target=self._feed_sound, args=(open(writes, "wb", buffering=0),), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def read(self) -> bytes:
        """The next piece; b"" at the end."""
        return self._process.stdout.read1(PIECE_BYTES)

    def finish(self) -> None:
        """Waits for the end and raises what went wrong on the way."""
        code = self._process.wait()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error
        if code:
            raise InputError(f"ffmpeg could not encode the stream: {first_complaint(self._log)}; check the size of the video")

    def stop(self) -> None:
        """Ends everything, wherever it is."""
        self._stopped.set()
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(queue.Empty):
            while True:
                self._sound.get_nowait()
        self._sound.put(None)
        for thread in self._threads:
            thread.join()
        self._process.stdout.close()
        self._log.close()

    def _feed_pictures(self, first: Moment) -> None:
        moment: Moment | None = first
        try:
            with self._process.stdin as pictures:
                while moment is not None and not self._stopped.is_set():
                    picture, sound = moment
                    self._put(_pcm(sound))
                    pictures.write(np.ascontiguousarray(picture).data)
                    moment = next(self._moments, None)
        except BrokenPipeError:
            pass  # ffmpeg has ended; finish() says why
        except BaseException as error:  # raised again where the caller waits
            self._error = error
        finally:
            self._put(None)
            if (close := getattr(self._moments, "close", None)) is not None:
                close()

    def _put(self, sound: bytes | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                return self._sound.put(sound, timeout=0.1)

    def _feed_sound(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError), pipe:
            while (sound := self._sound.get()) is not None:
                pipe.write(sound)
        while not self._stopped.is_set() and self._process.poll() is None:
            # The sound ended first, or ffmpeg did: nobody may wait for room in the queue.
            with contextlib.suppress(queue.Empty):
                if self._sound.get(timeout=0.1) is None:
                    return


def _command(shape: tuple[int, ...], sound_fd: int) -> list[str]:
    height, width = shape[:2]
    if height % 2 or width % 2:
        raise InputError(f"frames of {width}x{height} pixels can't be streamed, colour needs whole pairs; give an even --size")
    # Neither input is probed for what it is: that would hold back the first second.
    quick = ["-probesize", "32", "-analyzeduration", "0"]
    command = [ffmpeg_executable(), "-nostdin", "-v", "error"]
    command += [*quick, "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{FPS}", "-i", "pipe:0"]
    command += [*quick, "-f", "s16le", "-ar", f"{SAMPLE_RATE}", "-ac", "1", "-i", f"pipe:{sound_fd}"]
    command += ["-map", "0:v", "-map", "1:a", *codec_arguments(QUICK, False), "-tune", "zerolatency", "-g", f"{KEY_FRAMES}"]
    command += ["-c:a", "aac", "-b:a", "96k", "-ar", "48000"]
    command += ["-movflags", "empty_moov+default_base_moof", "-frag_duration", f"{round(1e6 * FRAGMENT_SECONDS)}", "-flush_packets", "1"]
    return [*command, "-f", "mp4", "pipe:1"]


def _pcm(samples: np.ndarray) -> bytes:
    return np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
