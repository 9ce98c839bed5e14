"""One live talk: sound comes in when it likes, frames of motion and sound go out every 40 ms; what the face does between utterances.

Three callers share a `Talk`: the connection (`hear`, `flush`, `cancel`), a worker that computes motion (`think`), and the clock (`step`).
What a frame of speech looks like depends on the samples alone, not on how they were cut or when they came.
"""

import asyncio
import collections
import dataclasses
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import numpy as np

from data_tools.audio.sound import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.errors import InputError
from data_tools.landmarks68 import BROWS
from geneface_jax.data.subject import Subject
from geneface_jax.inference import motion_filters
from geneface_jax.inference.controls import Controls, frame_range
from geneface_jax.inference.motion import mirrored_indices, pose_track, with_eyes
from geneface_jax.typing import Float, Float32

# -------- The clock: frames of 40 ms on a grid, which sound and picture are stamped from

FRAME_SECONDS = 1.0 / FPS
MOST_BEHIND = 0.5
"""Seconds that the grid catches up with; after a longer pause of the whole machine (a laptop that slept) it begins anew."""


class Clock:
    """Time as live sessions see it. Tests have one of their own, which runs as fast as they like."""

    def now(self) -> float:
        """Seconds, never going back."""
        return time.monotonic()

    async def sleep_until(self, when: float) -> None:
        """Returns at `when`, or at once if that has passed."""
        await asyncio.sleep(max(when - self.now(), 0.0))


class Grid:
    """Due times of frames: one every 40 ms from now on, without accumulating error.

    Attributes:
      behind: seconds that the last tick came too late.
      skipped: frames that were never due, because the machine stood still.
    """

    def __init__(self, clock: Clock):
        self._clock, self._start, self._ticks = clock, clock.now(), 0
        self.behind, self.skipped = 0.0, 0

    def due(self) -> float:
        """When the next tick is due, in seconds of the clock."""
        return self._start + self._ticks * FRAME_SECONDS

    def tick(self) -> None:
        """Notes that a tick happens now."""
        self.behind = self._clock.now() - self.due()
        if self.behind > MOST_BEHIND:
            missed = int(self.behind / FRAME_SECONDS)
            self.skipped += missed
            self._ticks += missed
        self._ticks += 1

    async def __aiter__(self) -> AsyncIterator[int]:
        """Yields the number of every tick, when it is due."""
        while True:
            await self._clock.sleep_until(self.due())
            self.tick()
            yield self._ticks - 1


# -------- Sound to frames of speech


class Speech(Protocol):
    """One utterance's motion network: `live.speech.LiveSpeech`, or a stand-in.

    Attributes:
      BLOCK: frames that are decided at a time.
      DELAY: seconds from a frame's first sample to the sample that decides it.
    """

    BLOCK: int
    DELAY: float

    def push(self, samples: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, "T 68 3"]:
        """Motion of the frames that these samples decide."""

    def flush(self) -> Float32[np.ndarray, "T 68 3"]:
        """Motion of the rest, as if silence followed."""


LOUD_AT_FIRST = -30.0
"""dB of loud speech, until louder sound is heard."""

LOUD_DECAY = 0.02
"""dB a frame (0.5 dB/s) by which what counts as loud speech falls: a speaker who goes farther away from the microphone is heard again."""

LOUD_AT_LEAST = -45.0


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A frame of speech.

    Attributes:
      motion: as the network gives it.
      sound: its 640 samples.
      voiced: whether there is speech in it, or within `motion_filters.RAMP` frames; if not, the face is idle.
      heard: when its last sample came, in seconds of the clock.
      last: whether the utterance ends with it.
    """

    motion: Float32[np.ndarray, "68 3"]
    sound: Float32[np.ndarray, " samples"]
    voiced: bool
    heard: float
    last: bool = False


class Utterance:
    """Samples of one utterance to frames of speech; deterministic in the samples."""

    def __init__(self, speech: Speech, silence_db: float = 40.0):
        self._speech, self._silence_db = speech, silence_db
        # Frames after a frame that are surely heard when it is decided.
        self._ahead = max(int(speech.DELAY * FPS + 1e-6) - speech.BLOCK, 0)
        self._rest = np.zeros(0, np.float32)
        self._frames: collections.deque[tuple[np.ndarray, float, float]] = collections.deque()
        self._examined = 0
        self._loud, self._open = LOUD_AT_FIRST, 0

    def push(self, samples: Float32[np.ndarray, " N"], now: float) -> list[Spoken]:
        """The frames that these samples decide; they came at `now`."""
        self._hear(samples, now)
        return self._spoken(self._speech.push(samples))

    def flush(self, now: float) -> list[Spoken]:
        """The frames that are left, at the end of the utterance."""
        if len(self._rest):
            self._hear(np.zeros(SAMPLES_PER_FRAME - len(self._rest), np.float32), now)
        found = self._spoken(self._speech.flush())
        return [*found[:-1], dataclasses.replace(found[-1], last=True)] if found else []

    def _hear(self, samples: np.ndarray, now: float) -> None:
        sound = np.concatenate([self._rest, samples])
        count = len(sound) // SAMPLES_PER_FRAME
        self._rest = sound[count * SAMPLES_PER_FRAME :]
        if count:
            whole = sound[: count * SAMPLES_PER_FRAME]
            levels = map(float, motion_filters.loudness(whole, count))
            self._frames.extend((one, level, now) for one, level in zip(whole.reshape(count, -1), levels, strict=True))

    def _spoken(self, motion: np.ndarray) -> list[Spoken]:
        found = []
        for points in motion:
            if not self._frames:
                break  # after the end of the sound
            voiced = self._gate()
            sound, _, heard = self._frames.popleft()
            found.append(Spoken(points, sound, voiced, heard))
        return found

    def _gate(self) -> bool:
        """Whether the next frame is voiced. Looks as far ahead as is surely heard, so that the mouth is ready when speech sets in."""
        while self._examined <= self._ahead:
            if self._examined < len(self._frames):
                level = self._frames[self._examined][1]
                self._loud = max(level, self._loud - LOUD_DECAY, LOUD_AT_LEAST)
                if level > max(self._loud - self._silence_db, motion_filters.DIGITAL_SILENCE):
                    self._open = self._examined + motion_filters.RAMP + 1
            self._examined += 1
        self._examined -= 1
        self._open -= 1
        return self._open >= 0


# -------- The person between utterances


class Look:
    """What a person does besides speaking: head pose and blinks of the training video, back and forth, and a shut mouth.

    Args:
      subject: the person's dataset.
      pose: see `Controls.pose`.

    Attributes:
      mean: of the person's motion.
      closed: motion of a shut mouth.
      period: frames after which the track begins anew.
    """

    def __init__(self, subject: Subject, pose: str = "video"):
        self._subject, self.mean = subject, subject.motion_mean
        own = subject.motion[: subject.n_train]
        self.period = max(2 * len(own) - 2, 1)
        self._source = mirrored_indices(len(own), self.period)
        self.closed = motion_filters.most_closed_mouth(own.reshape(len(own), -1), subject.mean_face).reshape(68, 3)
        track = own[self._source][:, BROWS]
        # A loop: the smoothed path's end meets its beginning.
        self._brows = (
            motion_filters.smooth_moving_average(np.concatenate([track[-7:], track, track[:7]]), 7)[7:-7] if len(own) > 7 else track
        )
        cameras = subject.cameras[: subject.n_train] if pose in ("video", "still") else subject.cameras
        first, stop = {"video": (0, len(own)), "still": (0, 1)}.get(pose) or frame_range(pose)
        loop = max(2 * (stop - first) - 2, 1)
        # Smoothed beyond both ends of the loop, so that its end meets its beginning.
        self._cameras = np.roll(pose_track(cameras, loop + 6, pose)[3:-3], 3, axis=0)

    def idle(self, frame: int) -> Float32[np.ndarray, "68 3"]:
        """Motion of a frame in which nothing is said, before the eyes."""
        motion = self.closed.copy()
        motion[BROWS] = self._brows[frame % self.period]
        return motion

    def camera(self, frame: int) -> Float[np.ndarray, "4 4"]:
        """Pose of a frame; continuous, whether the person speaks or not."""
        return self._cameras[frame % len(self._cameras)]

    def eyes(self, motion: Float32[np.ndarray, "68 3"], frame: int, controls: Controls) -> tuple[np.ndarray, float]:
        """The motion with a frame's eyes, and the eye openness."""
        period = controls.blink_period if controls.blink_mode == "period" else self.period
        moved, openness = with_eyes(motion[None].copy(), self._subject, controls, frame % period)
        return moved[0], float(openness[0])


# -------- The talk

MAX_AHEAD = 2.0
"""Seconds of sound that may wait: what comes faster than it is spoken is refused beyond."""

CUSHION = 1
"""Frames that speech waits when it begins, so that a block that takes a little longer leaves no gap."""

CANCEL_RAMP = 3
"""Frames in which the mouth shuts after `cancel`: with the wait for the next frame 160 ms."""

SPARE_SECONDS = 2.0
"""When more sound than needed was waiting for so long (a sender's clock is faster than ours, or its sound had been late), as many frames
of the next pause are left out."""

LIVE_CONTROLS = ("mouth_amp", "blink_mode", "blink_period")
"""Controls that may change while a person speaks."""


def changed(controls: Controls, values: Mapping[str, Any]) -> Controls:
    """Controls with other values, from JSON.

    Raises:
      InputError: a control that can't be changed in a session, or a value that it can't have.
    """
    found = {}
    for name, value in values.items():
        if name not in LIVE_CONTROLS:
            raise InputError(f"The control {name!r} can't be changed in a live session: choose from {', '.join(LIVE_CONTROLS)}.")
        kind = type(getattr(controls, name))
        fits = isinstance(value, str) if kind is str else type(value) in (int, float) and math.isfinite(value)
        if not fits:
            raise InputError(f"The control {name} is {value!r}: give {'a name' if kind is str else 'a number'}.")
        found[name] = kind(value)
    return dataclasses.replace(controls, **found).validate()


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of a talk: what is heard, and what is needed for its picture.

    Attributes:
      index: from 0, 25 a second; it is to be heard and seen at `index * 40` ms.
      sound: its 640 samples.
      speaking: whether they are speech, not a pause.
      late: whether speech was due and did not come.
      heard: when its last sample came, in seconds of the clock; None where there is no sound, which is zeros then.
      motions: of the frame and its neighbors to both sides, of which those to come are like the frame.
      camera, eye_openness: of the frame.
    """

    index: int
    sound: Float32[np.ndarray, " samples"]
    speaking: bool
    late: bool
    heard: float | None
    motions: Float32[np.ndarray, "W 68 3"]
    camera: Float[np.ndarray, "4 4"]
    eye_openness: float


class Talk:
    """The state of one session.

    Args:
      look: the person.
      open_speech: starts an utterance.
      controls: validated.
      reach: frames on both sides that a picture depends on (`FrameBatches.reach`).
      cushion: see `CUSHION`.

    Attributes:
      late, shed, refused: frames in which speech was late, silent frames left out, and seconds of sound refused so far.
    """

    def __init__(self, look: Look, open_speech: Callable[[], Speech], controls: Controls, *, reach: int = 0, cushion: int = CUSHION):
        self._look, self._open_speech, self._reach, self._cushion = look, open_speech, reach, cushion
        self.controls = controls
        self._lock, self._thinking = threading.Lock(), threading.Lock()
        self._generation = 0
        self._waiting: collections.deque[tuple[np.ndarray | None, float]] = collections.deque()
        self._waiting_samples = 0
        self._utterance: tuple[int, Utterance] | None = None
        self._ready: collections.deque[Spoken] = collections.deque()
        self._running, self._hold = False, cushion
        self._fewest, self._counted, self._spare = 10**9, 0, 0
        self.late, self.shed, self.refused = 0, 0, 0.0
        self._index, self._cancelled = 0, False
        self._voiced, self._offset, self._left, self._ramp = False, np.zeros((68, 3), np.float32), 0, motion_filters.RAMP
        self._base = look.idle(0)
        # Before the first frame everything stands still.
        still, _ = look.eyes(self._base, 0, controls)
        self._recent = collections.deque([still] * (reach + 1), maxlen=reach + 1)

    # -------- The connection

    def hear(self, samples: Float32[np.ndarray, " N"], now: float) -> float:
        """Takes samples at 16 kHz in -1..1; returns the seconds of them that there was no room for (see `MAX_AHEAD`)."""
        with self._lock:
            room = max(round((MAX_AHEAD - self._queued()) * SAMPLE_RATE), 0)
            taken = np.array(samples[:room], np.float32)
            if len(taken):
                self._waiting.append((taken, now))
                self._waiting_samples += len(taken)
            lost = (len(samples) - len(taken)) / SAMPLE_RATE
            self.refused += lost
            return lost

    def flush(self, now: float) -> None:
        """The utterance ends: what is queued is spoken to its end, and the next sound begins another one."""
        with self._lock:
            self._waiting.append((None, now))

    def cancel(self) -> None:
        """Barge-in: what is queued is dropped, the sound stops, the mouth shuts."""
        with self._lock:
            self._generation += 1
            self._waiting.clear()
            self._waiting_samples = 0
            self._ready.clear()
            self._running, self._cancelled, self._hold = False, True, self._cushion

    def set(self, values: Mapping[str, Any]) -> None:
        """Changes controls. Raises as `changed`."""
        self.controls = changed(self.controls, values)

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._index

    @property
    def quiet(self) -> bool:
        """Whether everything was said, and the mouth is shut."""
        with self._lock:
            return not (self._waiting or self._ready or self._voiced or self._left)

    @property
    def queued(self) -> float:
        """Seconds of sound that wait to be spoken."""
        with self._lock:
            return self._queued()

    def _queued(self) -> float:
        return self._waiting_samples / SAMPLE_RATE + len(self._ready) / FPS

    # -------- The worker

    def think(self) -> bool:
        """Computes the motion of what was heard; returns whether there was anything to do."""
        with self._thinking:
            with self._lock:
                generation, sound, ends, now = self._generation, [], False, 0.0
                while self._waiting and not ends:
                    samples, now = self._waiting.popleft()
                    ends = samples is None
                    if samples is not None:
                        sound.append(samples)
                        self._waiting_samples -= len(samples)
                if not sound and not ends:
                    return False
            if self._utterance is None or self._utterance[0] != generation:
                if not sound:
                    return True
                self._utterance = generation, Utterance(self._open_speech(), self.controls.silence_db)
            utterance, found = self._utterance[1], []
            if sound:
                found += utterance.push(np.concatenate(sound), now)
            if ends:
                found += utterance.flush(now)
                self._utterance = None
            with self._lock:
                if generation == self._generation:
                    self._ready.extend(found)
            return True

    # -------- The clock

    def step(self) -> Frame:
        """The next frame; to be called every 40 ms. Without speech it is an idle one."""
        n, self._index = self._index, self._index + 1
        with self._lock:
            cancelled, self._cancelled = self._cancelled, False
            spoken, late = self._next()
        voiced = spoken is not None and spoken.voiced
        target = self._amplified(spoken.motion) if voiced else self._look.idle(n)
        if voiced != self._voiced or cancelled:
            self._turn(voiced, target, CANCEL_RAMP if cancelled else motion_filters.RAMP)
        self._base = target + self._offset * (self._left / self._ramp)
        self._left = max(self._left - 1, 0)
        motion, openness = self._look.eyes(self._base, n, self.controls)
        self._recent.append(motion)
        # The renderer weighs frames on both sides; those to come are unknown, and taken to be like this one.
        motions = np.stack([*self._recent, *[motion] * self._reach])
        if spoken is None:
            return Frame(n, np.zeros(SAMPLES_PER_FRAME, np.float32), False, late, None, motions, self._look.camera(n), openness)
        return Frame(n, spoken.sound, spoken.voiced, False, spoken.heard, motions, self._look.camera(n), openness)

    def _next(self) -> tuple[Spoken | None, bool]:
        """The frame of speech that is due, and whether one is late."""
        if not self._ready:
            late, self._running, self._hold, self._spare = self._running, False, self._cushion, 0
            self.late += late
            return None, late
        if not self._running and self._hold and not self._ready[-1].last:
            self._hold -= 1
            return None, False
        self._running = True
        self._leave_out()
        spoken = self._ready.popleft()
        self._running = not spoken.last
        return spoken, False

    def _leave_out(self) -> None:
        """Leaves out a silent frame while more sound than needed has been waiting for long."""
        self._fewest, self._counted = min(self._fewest, len(self._ready)), self._counted + 1
        if self._counted >= SPARE_SECONDS * FPS:
            self._spare = max(self._fewest - self._cushion - 2, 0)
            self._fewest, self._counted = 10**9, 0
        if self._spare and len(self._ready) > 1 and not (self._ready[0].voiced or self._ready[0].last):
            self._ready.popleft()
            self._spare -= 1
            self.shed += 1

    def _turn(self, voiced: bool, target: np.ndarray, ramp: int) -> None:
        """Goes from the last frame's motion to another target in `ramp` frames: what separates them fades out linearly."""
        self._voiced, self._offset, self._ramp, self._left = voiced, self._base - target, ramp, ramp - 1

    def _amplified(self, motion: np.ndarray) -> np.ndarray:
        if self.controls.mouth_amp == motion_filters.UNCHANGED_MOUTH:
            return motion
        return motion_filters.mouth_amplitude(motion.reshape(1, 204), self._look.mean, self.controls.mouth_amp).reshape(68, 3)
