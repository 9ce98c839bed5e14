"""Streaming: fragmented mp4 while frames are rendered, and live speech in blocks with a bounded look-ahead."""

from __future__ import annotations

import contextlib
import dataclasses
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
from geneface_jax.inference.audio_features import audio_features_of
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.inference.motion import AudioToMotion, shape_motion, with_eyes
from geneface_jax.inference.motion_filters import RAMP, UNCHANGED_MOUTH, loudness, smooth_exponential
from geneface_jax.inference.person import MotionPlan, OpenPerson, output_cameras, plan_motion, render_frames
from geneface_jax.inference.provenance import Provenance, provenance_of, uuid_box
from geneface_jax.models.audio2motion import STRIDE

# ----------------------------------------------------------------------------------------------------
# A video while it is being made: frames are encoded as they are rendered, and leave as pieces of a fragmented mp4.
#
#     for piece in stream(person, samples, controls):
#         response.write(piece)
#
# A player needs no index at the end of such a file, so it starts with the first piece.

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
FRAGMENT_SECONDS = 0.2
"""Length of one piece: five frames wait for each other, which is what a viewer waits for the first picture."""

KEY_FRAMES = 25
"""Frames from one key frame to the next: a player that joins late waits at most a second."""

QUICK = EncoderOptions(crf=20, preset="veryfast")
PIECE_BYTES = 1 << 16
WAITING_FRAMES = 8
"""Frames of sound that may wait for ffmpeg, so that a stalled reader stalls the rendering and no memory fills up."""

AVFrame = tuple[np.ndarray, np.ndarray]
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
    script = plan_motion(person, samples, controls)
    sound = np.zeros(script.frames * SAMPLES_PER_FRAME, np.float32)
    sound[: len(samples)] = samples[: len(sound)]
    moments = zip(render_frames(person, script, controls), sound.reshape(-1, SAMPLES_PER_FRAME), strict=True)
    yield from encode(moments, provenance_of(person.parts, person.subject.meta))


def encode(moments: Iterable[AVFrame], provenance: Provenance | None = None) -> Generator[bytes, None, None]:
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

    def __init__(self, moments: Iterator[AVFrame]):
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

    def _feed_pictures(self, first: AVFrame) -> None:
        moment: AVFrame | None = first
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


# ----------------------------------------------------------------------------------------------------
# Speaking while the recording is still arriving.
#
# The shipped road levels a recording as a whole (`data.speech_batches`: its loudness, the median of its pitch; `silence`: its loud frames),
# which nobody knows before its end. Here the recording is worked on in blocks of `BLOCK` frames, and a block is a pure function of the
# sound in a window around it: `HISTORY` frames before, and behind it what the networks look ahead. Levels are those of the window, blocks
# are faded into each other, noise belongs to its moment, smoothing is causal. So the frames don't depend on how the sound was cut into
# pieces; they differ a little from `pipeline.infer`'s, which knows the whole recording, wherever a window is louder or quieter than that.

BLOCK = 24
"""Frames (0.96 s) made at once; a multiple of the VAE's stride, so that every window begins on a latent frame."""

HISTORY = 192
"""Frames (7.7 s) before a block that its levels are taken from; more than the networks look back."""

FADE = 6
"""Frames over which one block's motion goes over into the next one's."""

MARGIN = 4
"""Frames drawn before and behind a block and left out: more than the renderer's windows over the motion reach."""

POSE_MARGIN = 3
"""Half the window that smooths the camera path."""

POSTNET_REACH = 7
"""Frames: seven convolutions of three taps."""


def look_ahead(speech: AudioToMotion) -> int:
    """How many video frames behind a frame its motion depends on: the receptive field of the networks, to one side.

    Upwards from the motion: PostNet, the decoder's WaveNet, the flow's at a quarter of the rate, the convolution that leads there (6 frames
    ahead of its latent frame), the condition's two convolutions, and the audio features' own windows (one frame).
    """
    vae = speech.vae
    fine = (POSTNET_REACH if speech.postnet else 0) + vae.decoder_layers * (vae.kernel_size // 2)
    coarse = vae.flow_blocks * vae.flow_layers * (vae.flow_kernel_size // 2)
    return fine + STRIDE * coarse + STRIDE + 2 + 2 + 1


def delay_frames(speech: AudioToMotion) -> int:
    """Frames of sound that must be there before the first picture: a block, the one behind it, fade, ramp and the networks' look-ahead."""
    return BLOCK + _tail(speech)


def stream_live(person: OpenPerson, pieces: Iterable[np.ndarray], controls: Controls) -> Iterator[AVFrame]:
    """Pictures and their sound, as soon as enough sound has come.

    Args:
      person: see `pipeline.open_person`; with `mel_f0` features.
      pieces: of the recording, in order: [n] samples at 16 kHz in -1..1, of any lengths.
      controls: validated.

    Yields:
      for `stream.encode`; the last frame is filled up with silence.

    Raises:
      InputError: HuBERT features (they are normalised over the whole recording), `orbit` (one swing over a length nobody knows yet),
        a transparent background, or no sound at all.
    """
    if person.subject.audio_model != "mel_f0":
        raise InputError(
            f"{person.parts.folder} hears {person.subject.audio_model}, which needs the whole recording; only mel_f0 can be heard live"
        )
    if controls.orbit:
        raise InputError(
            f"--orbit {controls.orbit} is one swing over the whole video, whose length is not known while it is live; leave it out"
        )
    if controls.bg == TRANSPARENT:
        raise InputError("--bg transparent can't be streamed, mp4 has no alpha channel; give a colour")
    director = _LiveSession(person, controls)
    for piece in pieces:
        director.hear(piece)
        while (block := director.next_block(last=False)) is not None:
            yield from director.draw(block)
    if not director.n_samples:
        raise InputError("no sound has come; send 16 kHz samples")
    while (block := director.next_block(last=True)) is not None:
        yield from director.draw(block)


def _tail(speech: AudioToMotion) -> int:
    # The margin behind a block lies in the next one, which needs a window of its own.
    return BLOCK + look_ahead(speech) + FADE + RAMP


@dataclasses.dataclass(frozen=True)
class _Block:
    """Frames [first, last), and the motion from `begin` on that surrounds them."""

    first: int
    last: int
    begin: int
    motion: np.ndarray


class _LiveSession:
    """Keeps the sound of the last windows, the motion around the current block, and the smoothing's state."""

    def __init__(self, person: OpenPerson, controls: Controls):
        self._person, self._controls = person, controls
        self._features = audio_features_of(person.subject.meta, f"the dataset of {person.parts.folder}")
        self._tail = _tail(person.speech)
        self._sound, self._sound_begin = np.zeros(0, np.float32), 0  # samples kept, and the frame they begin with
        self.n_samples = 0
        self._done = 0
        self._shaped = np.zeros((0, 204), np.float32)  # faded and smoothed motion from frame `_shaped_begin` on
        self._shaped_begin = 0
        self._fading = np.zeros((0, 204), np.float32)  # the last window's version of the frames behind `_shaped`

    def hear(self, piece: np.ndarray) -> None:
        """Takes samples in."""
        piece = np.asarray(piece, np.float32).reshape(-1)
        self._sound = np.concatenate([self._sound, piece])
        self.n_samples += len(piece)

    def next_block(self, last: bool) -> _Block | None:
        """The next frames that can be drawn; with `last` the recording is over and what is left is made of what there is."""
        total = -(-self.n_samples * FPS // SAMPLE_RATE)
        first = self._done
        if first >= total if last else self.n_samples < (first + BLOCK + self._tail) * SAMPLES_PER_FRAME:
            return None
        end = min(first + BLOCK, total)
        wanted = min(end + MARGIN, total) if last else end + MARGIN
        while self._shaped_begin + len(self._shaped) < wanted:
            self._extend(total if last else None)
        self._done = end
        begin = max(first - MARGIN, 0)
        motion = self._shaped[begin - self._shaped_begin : wanted - self._shaped_begin]
        keep = max(end - MARGIN, 0)
        self._shaped, self._shaped_begin = self._shaped[max(keep - self._shaped_begin, 0) :], max(keep, self._shaped_begin)
        return _Block(first, end, begin, motion)

    def draw(self, block: _Block) -> Iterator[AVFrame]:
        """Renders a block."""
        person, controls, n = self._person, self._controls, len(block.motion)
        motion, openness = with_eyes(block.motion.reshape(n, 68, 3).copy(), person.subject, controls, block.begin)
        # Smoothed as if the video went on, so that the path is the same wherever a block ends.
        cameras = output_cameras(person.subject, block.begin + n + POSE_MARGIN, controls.pose)[block.begin : block.begin + n]
        script = MotionPlan(block.motion, motion, openness, cameras, cameras)
        sound = self._sound[(block.first - self._sound_begin) * SAMPLES_PER_FRAME :]
        for number, picture in enumerate(render_frames(person, script, controls), start=block.begin):
            if block.first <= number < block.last:
                heard = sound[(number - block.first) * SAMPLES_PER_FRAME : (number - block.first + 1) * SAMPLES_PER_FRAME]
                yield picture, np.pad(heard, (0, SAMPLES_PER_FRAME - len(heard)))
            if number + 1 >= block.last:
                break
        self._drop_sound()

    def _extend(self, total: int | None) -> None:
        """Makes the motion of one more block from the sound around it. `total` is the number of frames once that is known."""
        person, controls, speech = self._person, self._controls, self._person.speech
        first = self._shaped_begin + len(self._shaped)
        begin = max(first - HISTORY, 0) // STRIDE * STRIDE
        stop = first + BLOCK + FADE + RAMP + look_ahead(speech)
        stop = stop if total is None else min(stop, total)
        samples = self._sound[(begin - self._sound_begin) * SAMPLES_PER_FRAME : (stop - self._sound_begin) * SAMPLES_PER_FRAME]
        features, f0 = self._features.compute(samples, stop - begin)
        amount = {"temperature": controls.temperature, "seed": controls.seed, "mouth_amp": controls.mouth_amp}
        predicted = speech.predict(features, f0, **amount, start=begin)
        mouth = UNCHANGED_MOUTH if speech.follows_mouth_amp else controls.mouth_amp
        # Smoothing and blinks need what came before the window: they follow.
        window = dataclasses.replace(controls, mouth_amp=mouth, smooth=0.0, blink_mode="none")
        shaped, _ = shape_motion(predicted, person.subject, window, loudness(samples, stop - begin))
        found = shaped.reshape(-1, 204)[first - begin :]
        count = min(BLOCK, len(found))
        new, ahead = found[:count].copy(), found[count : count + FADE].copy()
        if n := min(len(self._fading), count):
            weight = (np.arange(1, n + 1) / (n + 1))[:, None].astype(np.float32)
            new[:n] = (1.0 - weight) * self._fading[:n] + weight * new[:n]
        self._fading = ahead
        previous = self._shaped[-1:] if len(self._shaped) else new[:1]
        smoothed = smooth_exponential(np.concatenate([previous, new]), controls.smooth)[1:]
        self._shaped = np.concatenate([self._shaped, smoothed])

    def _drop_sound(self) -> None:
        """Forgets what no window needs any more."""
        keep = max(self._done - HISTORY - MARGIN - BLOCK, 0) // STRIDE * STRIDE
        self._sound = self._sound[(keep - self._sound_begin) * SAMPLES_PER_FRAME :]
        self._sound_begin = keep
