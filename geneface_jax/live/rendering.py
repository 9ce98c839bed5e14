"""Pictures of live sessions: one thread renders frames of several sessions in batches of one shape, and drops what comes too fast."""

import collections
import dataclasses
import io
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from data_tools.audio.sound import FPS
from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.person import Person
from geneface_jax.inference.renderer import FrameBatches, SubjectRenderer
from geneface_jax.live.sessions import Frame, Look, Speech, Talk
from geneface_jax.typing import UInt8

logger = logging.getLogger(__name__)

JPEG_QUALITY = 85
MOST_PENDING = 2
"""Pictures of a session that wait to be rendered; a further one replaces the oldest."""

HALF_RATE = FPS / 2
"""Pictures a second of a session on a machine that can't hold 25."""

FULL_LOAD = 0.85
"""Share of the time that sessions may take; the rest is for encoding, sending and everything else."""

TOO_FEW = 0.1
"""Share of a session's pictures that are dropped from which on it gets 12.5 a second."""

LOOK_FRAMES, LOOK_SECONDS = 2 * FPS, 2.0
"""Frames after which it is decided whether a session keeps its pictures a second."""

CALM_SECONDS = 10.0
"""For which 12.5 pictures a second were held with room for 25, before there are 25 again."""

RETURN_EVERY = 60.0
"""Seconds from one return to 25 pictures a second to the next: who returns and falls again waits."""

ADAPTIVE_FROM = 384
"""Pixels per side from which on adaptive rays are faster: a picture of 256 takes as long with all rays, one of 128 a fifth less."""

TRIAL_FRAMES = 6
TRIAL_SECONDS = 0.96


class Painter(Protocol):
    """Renders batches; `LiveRenderer`, or a stand-in.

    Attributes:
      batch: most frames of a batch.
      reach: frames on both sides of a frame that its picture depends on.
      size: pixels per side.
    """

    batch: int
    reach: int
    size: int

    def render(self, frames: Sequence[Frame]) -> list[UInt8[np.ndarray, "H W 3"]]:
        """The pictures of 1 to `batch` frames, of any sessions."""


class LiveRenderer:
    """A person's pictures at one size, for any number of sessions.

    Args:
      person: with a head of a radiance field grid.
      size: pixels per side: the trained size, or half of it (without super-resolution).
      batch: frames of a batch; chosen by the device when None.

    Raises:
      InputError: the person has a vanilla NeRF, which takes seconds a frame, or another size.
    """

    def __init__(self, person: Person, size: int | None = None, batch: int | None = None):
        if not isinstance(person.renderer, SubjectRenderer):
            raise InputError(
                f"{person.parts.folder} has a vanilla NeRF, which takes seconds a frame: use a person of a grid head for live."
            )
        # Two sizes, because every further one is compiled for a minute and stays in memory.
        sizes = {person.size, person.size // 2} if person.parts.head == "head" and person.size % 4 == 0 else {person.size}
        size = person.size if size is None else size
        if size not in sizes:
            raise InputError(
                f"The size is {size}, but {person.name} is shown at {' or '.join(map(str, sorted(sizes)))} pixels: choose one."
            )
        rays = "adaptive" if size >= ADAPTIVE_FROM else "trained"
        self._batches: FrameBatches = FrameBatches(person.renderer, size, rays=rays, batch=batch)
        self.batch, self.reach, self.size = self._batches.batch, self._batches.reach, self._batches.size

    def render(self, frames: Sequence[Frame]) -> list[UInt8[np.ndarray, "H W 3"]]:
        """See `Painter.render`."""
        motions = np.stack([frame.motions for frame in frames])
        cameras = np.stack([frame.camera for frame in frames])
        return self._batches.render(motions, cameras, np.array([frame.eye_openness for frame in frames], np.float32))


def jpeg(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A picture as JPEG."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


# -------- A person that is ready to speak, and what a session of it costs


@dataclasses.dataclass(frozen=True)
class Stage:
    """A person at one size, with warm programs.

    Attributes:
      name: of the person.
      look: see `Look`.
      painter: renders it.
      open_speech: starts an utterance.
      picture_seconds: that a picture takes.
      speech_seconds: that the motion of a second of speech takes.
    """

    name: str
    look: Look
    painter: Painter
    open_speech: Callable[[], Speech]
    picture_seconds: float
    speech_seconds: float

    def talk(self, controls: Controls, **options: int) -> Talk:
        """A session's state."""
        return Talk(self.look, self.open_speech, controls, reach=self.painter.reach, **options)

    def cost(self, fps: float) -> float:
        """Share of the time that a session takes."""
        return fps * self.picture_seconds + self.speech_seconds

    @property
    def capacity(self) -> int:
        """Sessions at 12.5 pictures a second that this machine sustains; one is always offered."""
        return max(int(FULL_LOAD / max(self.cost(HALF_RATE), 1e-6)), 1)


def open_stage(name: str, person: Person, open_speech: Callable[[], Speech], painter: Painter) -> Stage:
    """Compiles or loads a person's programs, and measures them."""
    look = Look(person.subject)
    talk = Talk(look, open_speech, Controls(), reach=painter.reach)
    frames = [talk.step() for _ in range(TRIAL_FRAMES * painter.batch)]
    batches = [frames[i : i + painter.batch] for i in range(0, len(frames), painter.batch)]
    painter.render(batches[0])
    times = []
    for batch in batches[1:]:
        began = time.perf_counter()
        for picture in painter.render(batch):
            jpeg(picture)
        times.append((time.perf_counter() - began) / len(batch))
    noise = np.random.default_rng(0).normal(0.0, 0.05, round(TRIAL_SECONDS * 16000)).astype(np.float32)
    for _ in range(2):  # the first one compiles
        began = time.perf_counter()
        speech = open_speech()
        speech.push(noise)
        spent = time.perf_counter() - began
    stage = Stage(name, look, painter, open_speech, float(np.median(times)), spent / TRIAL_SECONDS)
    logger.info(
        "%s at %dx%d: %.1f pictures/s; a second of speech takes %.2f s; %d live sessions at %.1f pictures/s.",
        name, painter.size, painter.size, 1.0 / max(stage.picture_seconds, 1e-6), stage.speech_seconds, stage.capacity, HALF_RATE,
    )  # fmt: skip
    return stage


class Pace:
    """Pictures a second of one session: those that were asked for, or 12.5 while there is no room for them.

    Args:
      wanted: 25 or 12.5.
      now: in seconds of the clock.

    Attributes:
      fps: pictures a second now.
      reason: why they changed last, for the user.
    """

    def __init__(self, wanted: float, now: float):
        self.wanted = self.fps = wanted
        self.reason = ""
        self._calm_since, self._returned = now, -math.inf

    @property
    def stride(self) -> int:
        """Frames from one picture to the next."""
        return round(FPS / self.fps)

    @property
    def missing(self) -> float:
        """Pictures a second that are missing to what was asked for."""
        return self.wanted - self.fps

    def fall(self, now: float) -> bool:
        """Goes down to 12.5 pictures a second; returns whether they were more."""
        fell, self.fps, self._calm_since = self.fps > HALF_RATE, HALF_RATE, now
        return fell

    def judge(self, now: float, submitted: int, dropped: int, *, room: bool) -> bool:
        """To be called every `LOOK_SECONDS`; returns whether the pictures a second changed.

        Args:
          submitted, dropped: pictures since the last call.
          room: whether the machine has the time for what was asked for.
        """
        if self.fps > HALF_RATE:
            self.reason = f"This machine does not hold {self.wanted:g} pictures a second: {HALF_RATE} are shown, with the same sound."
            return dropped > TOO_FEW * max(submitted, 1) and self.fall(now)
        if dropped or not room:
            self._calm_since = now
        if not self.missing or now - self._calm_since < CALM_SECONDS or now - self._returned < RETURN_EVERY:
            return False
        self.fps, self._returned = self.wanted, now
        self.reason = f"This machine has time for {self.wanted:g} pictures a second again."
        return True


# -------- The render thread

Deliver = Callable[[Frame, bytes | None], None]
"""Called in the render thread with a frame and its JPEG; None if the frame was dropped."""


class RenderThread:
    """Renders what sessions submit. Frames of sessions that share a painter are batched; a session never has more than `MOST_PENDING`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: collections.OrderedDict[object, collections.deque[tuple[Painter, Frame, Deliver]]] = collections.OrderedDict()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self.batches = self.pictures = 0
        self.busy = 0.0

    def submit(self, session: object, painter: Painter, frame: Frame, deliver: Deliver) -> None:
        """Renders a frame soon; it replaces the session's oldest if too many wait."""
        dropped = None
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live rendering", daemon=True)
                self._thread.start()
            waiting = self._pending.setdefault(session, collections.deque())
            waiting.append((painter, frame, deliver))
            if len(waiting) > MOST_PENDING:
                dropped = waiting.popleft()
            self._changed.notify()
        if dropped is not None:
            dropped[2](dropped[1], None)

    def forget(self, session: object) -> None:
        """Drops what a session that ended had submitted."""
        with self._changed:
            self._pending.pop(session, None)

    def stop(self) -> None:
        """Ends the thread after the batch that it is rendering."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _take(self) -> list[tuple[Painter, Frame, Deliver]]:
        """The next batch: the longest waiting session's oldest frame, and frames of others that share its painter."""
        with self._changed:
            while not self._stopped and not any(self._pending.values()):
                self._changed.wait()
            if self._stopped:
                return []
            first = next(waiting for waiting in self._pending.values() if waiting)
            painter, batch = first[0][0], list[tuple[Painter, Frame, Deliver]]()
            while len(batch) < painter.batch:
                found = [key for key, waiting in self._pending.items() if waiting and waiting[0][0] is painter]
                if not found:
                    break
                for key in found[: painter.batch - len(batch)]:
                    batch.append(self._pending[key].popleft())
                    self._pending.move_to_end(key)
                    if not self._pending[key]:
                        del self._pending[key]
            return batch

    def _run(self) -> None:
        while batch := self._take():
            began = time.perf_counter()
            try:
                pictures: list[bytes | None] = [jpeg(one) for one in batch[0][0].render([frame for _, frame, _ in batch])]
            except Exception:
                logger.exception("A batch of live pictures failed.")
                pictures = [None] * len(batch)
            self.busy += time.perf_counter() - began
            self.batches += 1
            self.pictures += len(batch)
            for (_, frame, deliver), picture in zip(batch, pictures, strict=True):
                deliver(frame, picture)
