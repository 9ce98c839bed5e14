"""Streaming: fragmented mp4 while frames are rendered, and live speech in blocks with bounded look-ahead."""

import contextlib
import dataclasses
import math
import os
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import IO

import numpy as np

from data_tools.audio.sound import FPS, MEL_F0, SAMPLE_RATE, SAMPLES_PER_FRAME, AudioFeatures, features_for_frames
from data_tools.encoder import EncoderOptions, codec_arguments
from data_tools.errors import InputError
from data_tools.ffmpeg import Process
from geneface_jax.inference.audio_features import audio_features_of
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.inference.motion import AudioToMotion, shape_motion, with_eyes
from geneface_jax.inference.motion_filters import RAMP, UNCHANGED_MOUTH, loudness, smooth_exponential
from geneface_jax.inference.person import MotionPlan, Person, output_cameras, plan_motion, render_frames
from geneface_jax.inference.provenance import Provenance, provenance_of, uuid_box
from geneface_jax.models.audio2motion import STRIDE
from geneface_jax.typing import Float, UInt8

# -------- Encoding while rendering: fragmented mp4, which needs no index at the end, so that playback starts with the first chunk
#
#     for chunk in stream(person, samples, controls):
#         response.write(chunk)

FRAGMENT_SECONDS = 0.2
"""Length of an mp4 fragment: five frames, which adds as much latency to the first picture."""

KEY_FRAME_INTERVAL = 25
"""Frames between key frames: a player that joins late waits at most a second."""

STREAM_ENCODER = EncoderOptions(crf=20, preset="veryfast")
CHUNK_BYTES = 1 << 16
AUDIO_QUEUE_FRAMES = 8
"""Frames of audio buffered for ffmpeg: back pressure stops the rendering if the reader stalls, so memory is bounded."""

AVFrame = tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, " samples"]]
"""A picture and its 640 audio samples (16 kHz, -1..1)."""


def stream(person: Person, samples: Float[np.ndarray, " N"], controls: Controls) -> Generator[bytes, None, None]:
    """Renders a whole recording and yields the bytes of one fragmented mp4 (H.264 and AAC); the frames are those of `person.infer`.

    Args:
      person: see `person.open_person`.
      samples: the recording at 16 kHz, in -1..1.
      controls: validated. The encoder's options are replaced by `STREAM_ENCODER`.

    Raises:
      InputError: `bg` is transparent, which mp4 does not support, or as `plan_motion` and `render_frames`.
    """
    if controls.bg == TRANSPARENT:
        raise InputError("--bg transparent can't be streamed, because mp4 has no alpha channel: give a color, or make a file.")
    plan = plan_motion(person, samples, controls)
    sound = np.zeros(plan.frames * SAMPLES_PER_FRAME, np.float32)
    sound[: len(samples)] = samples[: len(sound)]
    frames = zip(render_frames(person, plan, controls), sound.reshape(-1, SAMPLES_PER_FRAME), strict=True)
    yield from encode(frames, provenance_of(person.parts, person.subject.meta))


def encode(frames: Iterable[AVFrame], provenance: Provenance | None = None) -> Generator[bytes, None, None]:
    """Encodes pictures and audio while they are made. Closing the generator ends ffmpeg and closes `frames`.

    Args:
      frames: in order, 25 per second, all of one even size.
      provenance: metadata for the file; None omits it.

    Yields:
      chunks of at most 64 KiB.

    Raises:
      InputError: there was no picture, or ffmpeg failed.
      Exception: any exception of `frames`.
    """
    encoder = _Encoder(iter(frames))
    try:
        while chunk := encoder.read():
            yield chunk
        encoder.finish()
        if provenance is not None:
            yield uuid_box(provenance)
    finally:
        encoder.stop()


class _Encoder:
    """ffmpeg with two input pipes and one output pipe. One thread renders and writes pictures, one writes audio, the caller reads.

    ffmpeg reads its inputs in its own order: writing both pipes from one thread would deadlock.
    """

    def __init__(self, frames: Iterator[AVFrame]):
        self._frames = frames
        self._process: Process | None = None
        self._audio: queue.Queue[bytes | None] = queue.Queue(AUDIO_QUEUE_FRAMES)
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        first = next(frames, None)
        if first is None:
            raise InputError("There is not a single frame to stream: give a longer recording.")
        reads, writes = os.pipe()
        try:
            # No limit of its own: pictures may be slow to make, and a reader slow to take them.
            self._process = Process(_command(first[0].shape, reads), patience=math.inf, feed=True, pass_fds=(reads,))
        finally:
            os.close(reads)
        self._threads = [
            threading.Thread(target=self._write_pictures, args=(first,), daemon=True),
            threading.Thread(target=self._write_audio, args=(open(writes, "wb", buffering=0),), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def read(self) -> bytes:
        """The next chunk; b"" at the end."""
        return self._process.read_some(CHUNK_BYTES)

    def finish(self) -> None:
        """Waits for ffmpeg and the threads, and raises their errors."""
        done = self._process.finish()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error
        if not done:
            raise InputError(f"ffmpeg could not encode the stream ({self._process.complaint()}): check the size of the video.")

    def stop(self) -> None:
        """Stops ffmpeg and the threads at any point."""
        self._stopped.set()
        self._process.kill()
        with contextlib.suppress(queue.Empty):
            while True:
                self._audio.get_nowait()
        self._audio.put(None)
        for thread in self._threads:
            thread.join()
        self._process.stop()

    def _write_pictures(self, first: AVFrame) -> None:
        frame: AVFrame | None = first
        try:
            while frame is not None and not self._stopped.is_set():
                picture, samples = frame
                self._enqueue(pcm(samples))
                self._process.write(np.ascontiguousarray(picture).data)
                frame = next(self._frames, None)
        except BrokenPipeError:
            pass  # ffmpeg has ended; finish() reports the reason
        except BaseException as error:  # raised by finish() in the caller's thread
            self._error = error
        finally:
            self._process.end_input()
            self._enqueue(None)
            if (close := getattr(self._frames, "close", None)) is not None:
                close()

    def _enqueue(self, audio: bytes | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                return self._audio.put(audio, timeout=0.1)

    def _write_audio(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError), pipe:
            while (audio := self._audio.get()) is not None:
                pipe.write(audio)
        while not self._stopped.is_set() and self._process.running():
            # The pipe is closed: drain the queue, so that the picture thread is not blocked by it.
            with contextlib.suppress(queue.Empty):
                if self._audio.get(timeout=0.1) is None:
                    return


def _command(shape: tuple[int, ...], sound_fd: int) -> list[str]:
    height, width = shape[:2]
    if height % 2 or width % 2:
        raise InputError(f"Frames of {width}x{height} pixels can't be streamed, because H.264 needs even sizes: give an even --size.")
    # Probing the inputs' formats would delay the first second.
    quick = ["-probesize", "32", "-analyzeduration", "0"]
    command = [*quick, "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{FPS}", "-i", "pipe:0"]
    command += [*quick, "-f", "s16le", "-ar", f"{SAMPLE_RATE}", "-ac", "1", "-i", f"pipe:{sound_fd}"]
    command += ["-map", "0:v", "-map", "1:a", *codec_arguments(STREAM_ENCODER, False)]
    command += ["-tune", "zerolatency", "-g", f"{KEY_FRAME_INTERVAL}"]
    command += ["-c:a", "aac", "-b:a", "96k", "-ar", "48000"]
    command += ["-movflags", "empty_moov+default_base_moof", "-frag_duration", f"{round(1e6 * FRAGMENT_SECONDS)}", "-flush_packets", "1"]
    return [*command, "-f", "mp4", "pipe:1"]


def pcm(samples: Float[np.ndarray, " N"]) -> bytes:
    """Samples in -1..1 as 16-bit little-endian integers; what is louder is cut."""
    return np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


# -------- Live speech: rendering while the recording arrives
#
# Inference on a whole recording normalizes by its loudness, the median of its pitch and its loud frames, which are unknown before its end.
# Live, motion is made in blocks of `BLOCK` frames, each a pure function of the audio in a window around it: `HISTORY` frames before it and
# the networks' look-ahead after it. Levels are those of the window, blocks are crossfaded, the prior's noise is indexed by absolute time,
# and smoothing is causal. The frames therefore do not depend on how the audio was chunked, and differ slightly from `person.infer`'s where
# a window is louder or quieter than the whole recording.

BLOCK = 24
"""Frames (0.96 s) per block; a multiple of the VAE's stride, so that every window starts on a latent frame."""

HISTORY = 192
"""Frames (7.7 s) of context before a block, from which its levels are computed; more than the networks look back."""

FADE = 6
"""Frames of the crossfade between the motions of consecutive blocks."""

MARGIN = 4
"""Frames rendered before and after a block and discarded; more than the renderer's motion windows reach."""

POSE_MARGIN = 3
"""Half the window that smooths the camera path."""

POSTNET_REACH = 7
"""Receptive field of PostNet to one side in frames: seven convolutions with kernel size 3."""


def look_ahead(speech: AudioToMotion) -> int:
    """Number of future video frames that a frame's motion depends on: the one-sided receptive field of the networks.

    From the motion backwards: PostNet, the decoder's WaveNet, the flow's WaveNet at a quarter of the rate, the convolution before it (6
    frames ahead of its latent frame), the condition's two convolutions, and the windows of the audio features (one frame).
    """
    vae = speech.vae
    fine = (POSTNET_REACH if speech.postnet else 0) + vae.decoder_layers * (vae.kernel_size // 2)
    coarse = vae.flow_blocks * vae.flow_layers * (vae.flow_kernel_size // 2)
    return fine + STRIDE * coarse + STRIDE + 2 + 2 + 1


def delay_frames(speech: AudioToMotion, features: AudioFeatures = MEL_F0) -> int:
    """Latency in frames of audio before the first picture: two blocks, crossfade, silence ramp, what the networks and the features hear."""
    return _frames_heard(BLOCK + _tail(speech), features)


def _frames_heard(stop: int, features: AudioFeatures) -> int:
    """Frames of audio that the features of the first `stop` frames need: windows are complete, and hear what follows them."""
    grid = features.windows
    return stop if grid is None else -(-stop // grid.frames) * grid.frames + grid.future


def stream_live(person: Person, chunks: Iterable[np.ndarray], controls: Controls) -> Iterator[AVFrame]:
    """Yields pictures and their audio as soon as enough audio has arrived, for `encode`; the last frame is padded with silence.

    Args:
      person: see `person.open_person`; with `mel_f0` or `whisper` features.
      chunks: of the recording in order: [n] samples at 16 kHz in -1..1, of any lengths.
      controls: validated.

    Raises:
      InputError: HuBERT features (normalized over the whole recording), `orbit` (one period over the unknown length), a transparent
        background, or no audio.
    """
    if person.subject.audio_model == "hubert":
        raise InputError(
            f"{person.parts.folder} uses {person.subject.audio_model} features, which need the whole recording: use a person with mel_f0 "
            "or whisper features for live speech."
        )
    if controls.orbit:
        raise InputError(f"--orbit {controls.orbit} needs the length of the video, which is unknown for live speech: leave it out.")
    if controls.bg == TRANSPARENT:
        raise InputError("--bg transparent can't be streamed, because mp4 has no alpha channel: give a color.")
    session = _LiveSession(person, controls)
    for chunk in chunks:
        session.feed(chunk)
        while (block := session.next_block(last=False)) is not None:
            yield from session.render(block)
    if not session.n_samples:
        raise InputError("There is no sound: send 16 kHz samples.")
    while (block := session.next_block(last=True)) is not None:
        yield from session.render(block)


def _tail(speech: AudioToMotion) -> int:
    """Frames of audio needed after a block, whose margin lies in the next block and its window."""
    return BLOCK + look_ahead(speech) + FADE + RAMP


@dataclasses.dataclass(frozen=True)
class _Block:
    """Frames [first, last), and the motion with margins from frame `begin` on."""

    first: int
    last: int
    begin: int
    motion: Float[np.ndarray, "T 204"]


class _LiveSession:
    """State of live speech: audio of the last windows, motion around the current block, crossfade and smoothing."""

    def __init__(self, person: Person, controls: Controls):
        self._person, self._controls = person, controls
        self._features = audio_features_of(person.subject.meta, f"the dataset of {person.parts.folder}")
        self._tail = _tail(person.speech)
        self._heard = np.zeros((0, 0), np.float32)  # features on a grid, complete windows from frame `_heard_begin` on
        self._heard_begin = 0
        self._sound, self._sound_begin = np.zeros(0, np.float32), 0  # buffered samples, and the frame they begin with
        self.n_samples = 0
        self._done = 0
        self._shaped = np.zeros((0, 204), np.float32)  # crossfaded and smoothed motion from frame `_shaped_begin` on
        self._shaped_begin = 0
        self._fading = np.zeros((0, 204), np.float32)  # the last window's motion after `_shaped`

    def feed(self, chunk: np.ndarray) -> None:
        """Buffers samples."""
        chunk = np.asarray(chunk, np.float32).reshape(-1)
        self._sound = np.concatenate([self._sound, chunk])
        self.n_samples += len(chunk)

    def next_block(self, last: bool) -> _Block | None:
        """The next block if enough audio has arrived; `last` flushes the rest when the recording is over."""
        total = -(-self.n_samples * FPS // SAMPLE_RATE)
        first = self._done
        if first >= total if last else self.n_samples < _frames_heard(first + BLOCK + self._tail, self._features) * SAMPLES_PER_FRAME:
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

    def render(self, block: _Block) -> Iterator[AVFrame]:
        """Renders a block with its audio."""
        person, controls, n = self._person, self._controls, len(block.motion)
        motion, openness = with_eyes(block.motion.reshape(n, 68, 3).copy(), person.subject, controls, block.begin)
        # The path extends beyond the block, so that smoothing does not depend on the block's end.
        cameras = output_cameras(person.subject, block.begin + n + POSE_MARGIN, controls.pose)[block.begin : block.begin + n]
        plan = MotionPlan(block.motion, motion, openness, cameras, cameras)
        sound = self._sound[(block.first - self._sound_begin) * SAMPLES_PER_FRAME :]
        for number, picture in enumerate(render_frames(person, plan, controls), start=block.begin):
            if block.first <= number < block.last:
                samples = sound[(number - block.first) * SAMPLES_PER_FRAME : (number - block.first + 1) * SAMPLES_PER_FRAME]
                yield picture, np.pad(samples, (0, SAMPLES_PER_FRAME - len(samples)))
            if number + 1 >= block.last:
                break
        self._drop_sound()

    def _extend(self, total: int | None) -> None:
        """Predicts the motion of one more block from its window of audio. `total` is the number of frames if the recording is over."""
        person, controls, speech = self._person, self._controls, self._person.speech
        first = self._shaped_begin + len(self._shaped)
        begin = max(first - HISTORY, 0) // STRIDE * STRIDE
        stop = first + BLOCK + FADE + RAMP + look_ahead(speech)
        stop = stop if total is None else min(stop, total)
        samples = self._samples(begin, stop)
        features, f0 = self._features_of(samples, begin, stop)
        amount = {"temperature": controls.temperature, "seed": controls.seed, "mouth_amp": controls.mouth_amp}
        predicted = speech.predict(features, f0, **amount, start=begin)
        mouth = UNCHANGED_MOUTH if speech.follows_mouth_amp else controls.mouth_amp
        # Smoothing and blinks depend on frames before the window: they are applied afterwards.
        window = dataclasses.replace(controls, mouth_amp=mouth, smooth=0.0, blink_mode="none")
        shaped, _ = shape_motion(predicted, person.subject, window, loudness(samples, stop - begin))
        rest = shaped.reshape(-1, 204)[first - begin :]
        count = min(BLOCK, len(rest))
        new, ahead = rest[:count].copy(), rest[count : count + FADE].copy()
        if n := min(len(self._fading), count):
            weight = (np.arange(1, n + 1) / (n + 1))[:, None].astype(np.float32)
            new[:n] = (1.0 - weight) * self._fading[:n] + weight * new[:n]
        self._fading = ahead
        previous = self._shaped[-1:] if len(self._shaped) else new[:1]
        smoothed = smooth_exponential(np.concatenate([previous, new]), controls.smooth)[1:]
        self._shaped = np.concatenate([self._shaped, smoothed])

    def _samples(self, begin: int, stop: int) -> np.ndarray:
        """Samples of the frames [begin, stop), as far as there are any."""
        return self._sound[(begin - self._sound_begin) * SAMPLES_PER_FRAME : (stop - self._sound_begin) * SAMPLES_PER_FRAME]

    def _features_of(self, samples: np.ndarray, begin: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Audio features and f0 of the frames [begin, stop); those on a grid are made once, and are those of the whole recording."""
        grid = self._features.windows
        if grid is None:
            return self._features.compute(samples, stop - begin)
        done = self._heard_begin + len(self._heard) // 2
        end = -(-stop // grid.frames) * grid.frames
        if end > done:
            piece, last = max(done - grid.past, 0), end + grid.future
            new, _ = self._features.compute(self._samples(piece, last), last - piece)
            new = new[2 * (done - piece) : 2 * (end - piece)]
            kept = self._heard[2 * max(begin - self._heard_begin, 0) :]
            self._heard_begin = done - len(kept) // 2
            self._heard = np.concatenate([kept, new]) if len(kept) else new
        first = 2 * (begin - self._heard_begin)
        return self._heard[first : first + 2 * (stop - begin)], features_for_frames(samples, stop - begin)[1]

    def _drop_sound(self) -> None:
        """Drops samples before all future windows."""
        keep = max(self._done - HISTORY - MARGIN - BLOCK, 0) // STRIDE * STRIDE
        self._sound = self._sound[(keep - self._sound_begin) * SAMPLES_PER_FRAME :]
        self._sound_begin = keep
