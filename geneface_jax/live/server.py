"""Live sessions over WebSocket: `WS /api/live?person=NAME`, `GET /api/live/stats`, and the page `GET /live?person=NAME`."""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import logging
import struct
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import fastapi
import numpy as np
import soxr

from data_tools.audio.sound import FPS, SAMPLE_RATE
from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.streaming import pcm
from geneface_jax.live.rendering import FULL_LOAD, HALF_RATE, LOOK_FRAMES, LOOK_SECONDS, Pace, RenderThread, Stage
from geneface_jax.live.sessions import FRAME_SECONDS, LIVE_CONTROLS, MAX_AHEAD, Clock, Frame, Grid, changed

logger = logging.getLogger(__name__)

# -------- Messages, which docs/live.md describes

HEADER = struct.Struct("<BBxxId")
"""Of binary messages to the client: kind, 1 if the person speaks, two zero bytes, frame number, its time in ms."""

PICTURE, SOUND = 1, 2
FORMATS = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}
LOWEST_RATE, HIGHEST_RATE = 8000, 192_000
LOUDEST = 10.0
"""Samples above it (full scale 1) are of another scale; up to it they are cut to full scale."""


def stamp(kind: int, frame: Frame) -> bytes:
    """The header of a frame's sound or picture."""
    return HEADER.pack(kind, frame.speaking, frame.index, 1000.0 * frame.index / FPS)


@dataclasses.dataclass(frozen=True)
class Hello:
    """The client's first message.

    Attributes:
      rate: Hz of the samples it will send.
      format: one of `FORMATS`.
      size: pixels per side of the pictures; None is the person's.
      fps: pictures a second, 25 or 12.5.
      controls: those of `LIVE_CONTROLS`.
    """

    rate: int = SAMPLE_RATE
    format: str = "s16le"
    size: int | None = None
    fps: float = float(FPS)
    controls: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Hello":
        """Raises InputError if the message is not a hello, or asks for what there is not."""
        values = message_of(text)
        values.pop("type", None)
        if unknown := sorted(set(values) - {field.name for field in dataclasses.fields(cls)}):
            raise InputError(f"The first message has an unknown key {unknown[0]!r}: give rate, format, size, fps and controls.")
        found = cls(**values)
        if type(found.rate) is not int or not LOWEST_RATE <= found.rate <= HIGHEST_RATE:
            raise InputError(f"The rate is {found.rate!r}: give the Hz of your samples, from {LOWEST_RATE} to {HIGHEST_RATE}.")
        if found.format not in FORMATS:
            raise InputError(f"The format is {found.format!r}: choose {' or '.join(FORMATS)}.")
        if found.size is not None and type(found.size) is not int:
            raise InputError(f"The size is {found.size!r}: give a number of pixels.")
        if found.fps not in (FPS, HALF_RATE):
            raise InputError(f"The fps is {found.fps!r}: choose {FPS} or {HALF_RATE}.")
        if not isinstance(found.controls, dict):
            raise InputError(f"The controls are {found.controls!r}: give an object of {', '.join(LIVE_CONTROLS)}.")
        return found


def message_of(text: str | None) -> dict[str, Any]:
    """A JSON message. Raises InputError if it is none."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError('A text message is no JSON object: send something like {"type": "flush"}.')
    return found


class Samples:
    """Binary messages -> samples at 16 kHz in -1..1; the result does not depend on how the samples were cut into messages.

    Args:
      rate, format: see `Hello`.
    """

    def __init__(self, rate: int, format: str):
        self._dtype, self._scale = FORMATS[format]
        self._ratio = SAMPLE_RATE / rate
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32", quality="HQ")

    def read(self, data: bytes) -> np.ndarray:
        """The samples of a message.

        Raises:
          InputError: half a sample, NaN, or another scale than -1..1.
        """
        width = np.dtype(self._dtype).itemsize
        if len(data) % width:
            raise InputError(
                f"A message has {len(data)} bytes, which are no whole samples of {width} bytes: cut the sound between samples."
            )
        samples = np.frombuffer(data, self._dtype).astype(np.float32) / self._scale
        if not np.isfinite(samples).all():
            raise InputError("A message has samples that are not finite numbers (NaN): it was replaced by silence.")
        if len(samples) and np.abs(samples).max() > LOUDEST:
            raise InputError("A message has samples far beyond -1..1: it was replaced by silence; is the format right?")
        samples = np.clip(samples, -1.0, 1.0)
        return samples if self._resampler is None else self._resampler.resample_chunk(samples)

    def silence(self, data: bytes) -> np.ndarray:
        """As many zeros as a message has samples."""
        return np.zeros(round(len(data) / np.dtype(self._dtype).itemsize * self._ratio), np.float32)

    def rest(self) -> np.ndarray:
        """What the resampler still holds, at the end of an utterance; it begins anew."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        self._resampler.clear()
        return rest


# -------- A session: its state, and its way to the client

HELLO_SECONDS = 10.0
READER_SECONDS = 10.0
"""For a reader to take a message, after what the system buffers, or the goodbye; then the connection is dropped."""

MAX_PICTURES = 4
"""Pictures that wait for a slow reader; a further one replaces the oldest. Sound is never dropped."""

MAX_EVENTS = 100
MAX_SOUND_SECONDS = 10.0
"""Sound that waits for a slow reader before the session is closed."""

MAX_SESSIONS = 64
GOING, REFUSED, FAILED, TRY_LATER = 1001, 1008, 1011, 1013


class Session:
    """One connection's talk, and the messages that wait to be sent.

    Args:
      stage: the person.
      hello: what the client asked for.
      now: in seconds of the clock.
    """

    def __init__(self, stage: Stage, hello: Hello, now: float):
        self.stage = stage
        self.pace = Pace(hello.fps, now)
        self.talk = stage.talk(changed(Controls(), hello.controls))
        self.samples = Samples(hello.rate, hello.format)
        self.outbox: collections.deque[tuple[int, bytes | str]] = collections.deque()
        self.filled = asyncio.Event()
        self.thinking = self.asked = self.closed = False
        self.submitted = self.dropped = self.sent = self.missed = 0
        self.judged = (0, 0)
        self.lag = self.sound_lag = 0.0
        self._waiting: collections.Counter[int] = collections.Counter()

    @property
    def cost(self) -> float:
        """Share of the time that it takes."""
        return self.stage.cost(self.pace.fps)

    def put(self, kind: int, data: bytes | str) -> None:
        """Queues a message; kind 0 is an event. Who floods us without reading the answers misses some."""
        if self.closed or kind == 0 and self._waiting[0] >= MAX_EVENTS:
            return
        if kind == PICTURE and self._waiting[PICTURE] >= MAX_PICTURES:
            del self.outbox[next(i for i, (other, _) in enumerate(self.outbox) if other == PICTURE)]
            self._waiting[PICTURE] -= 1
            self.dropped += 1
        self.outbox.append((kind, data))
        self._waiting[kind] += 1
        self.filled.set()
        if self._waiting[SOUND] > MAX_SOUND_SECONDS * FPS:
            self.close(f"{MAX_SOUND_SECONDS:.0f} s of sound are waiting to be read: read as fast as it comes.")

    async def take(self) -> bytes | str | None:
        """The next message to send; None when the session is over."""
        while not self.outbox and not self.closed:
            self.filled.clear()
            await self.filled.wait()
        if not self.outbox:
            return None
        kind, data = self.outbox.popleft()
        self._waiting[kind] -= 1
        self.sent += kind == PICTURE
        return data

    def drop_sound(self) -> None:
        """After `cancel`: sound that was not sent yet is silent."""
        for i, (kind, data) in enumerate(self.outbox):
            if kind == SOUND:
                code, _, frame, time = HEADER.unpack_from(data)  # type: ignore[arg-type]
                self.outbox[i] = SOUND, HEADER.pack(code, 0, frame, time) + bytes(len(data) - HEADER.size)

    def event(self, kind: str, **values: Any) -> None:
        """Queues a JSON message."""
        self.put(0, json.dumps({"type": kind, **values}))

    def close(self, error: str = "") -> None:
        """Ends the session: what was not sent is dropped, and the client is told the error."""
        if self.closed:
            return
        self.outbox.clear()
        self._waiting.clear()
        if error:
            self.event("error", error=error)
        self.closed = True
        self.filled.set()

    def stats(self) -> dict[str, Any]:
        """Figures of `/api/live/stats`."""
        return {
            "person": self.stage.name,
            "size": self.stage.painter.size,
            "fps": self.pace.fps,
            "queue_ms": round(1000 * self.talk.queued),
            "lag_ms": round(1000 * self.lag),
            "sound_lag_ms": round(1000 * self.sound_lag),
            "drift_ms": round(1000 * max(self.lag - self.sound_lag, 0.0)),
            "pictures": self.sent,
            "dropped": self.dropped,
            "late": self.talk.late,
            "left_out": self.talk.shed,
            "refused_ms": round(1000 * self.talk.refused),
        }


# -------- All sessions of a process


class LiveHub:
    """All live sessions of a process.

    Args:
      open_stage: (person, size) -> a warm `Stage`; may take a minute, and raises InputError if there is no such person or size. It is
        called in a thread, once for every pair.
      clock: see `Clock`.
    """

    def __init__(self, open_stage: Callable[[str | None, int | None], Stage], clock: Clock | None = None):
        self._open_stage, self.clock = open_stage, clock or Clock()
        self._stages: dict[tuple[str | None, int | None], asyncio.Future[Stage]] = {}
        self.sessions: list[Session] = []
        self.renders = RenderThread()
        self._workers = concurrent.futures.ThreadPoolExecutor(1, "live speech")
        self._loaders = concurrent.futures.ThreadPoolExecutor(1, "live loading")
        self._ticking: asyncio.Task[None] | None = None
        self._late = 0.0
        self._looked = (0.0, 0)

    # -------- Stages and room

    def stage(self, person: str | None, size: int | None) -> "asyncio.Future[Stage]":
        """A person at a size, which is loaded at the first call; fails as `open_stage`, and is tried again at the next call then."""
        key = person, size
        if key not in self._stages:
            self._stages[key] = asyncio.get_running_loop().run_in_executor(self._loaders, self._open_stage, person, size)
            self._stages[key].add_done_callback(lambda stage: self._stages.pop(key) if stage.cancelled() or stage.exception() else None)
        return self._stages[key]

    def load(self) -> float:
        """Share of the time that the sessions take."""
        return sum(session.cost for session in self.sessions)

    def join(self, stage: Stage, hello: Hello) -> Session:
        """Starts a session; if there is no room for its pictures a second, the newest sessions get 12.5.

        Raises:
          InputError: all sessions are taken, or a control is out of range.
        """
        least = sum(one.cost(HALF_RATE) for one in [stage, *(session.stage for session in self.sessions)])
        if self.sessions and (least > FULL_LOAD or len(self.sessions) >= MAX_SESSIONS):
            raise Full(f"This machine sustains {len(self.sessions)} live sessions at a time, and all are taken: try again in a minute.")
        joined = Session(stage, hello, self.clock.now())
        self.sessions.append(joined)
        for session in reversed(self.sessions):
            if self.load() > FULL_LOAD and session.pace.fall(self.clock.now()) and session is not joined:
                session.event("fps", fps=HALF_RATE, reason="Another session began, for which this machine has no room otherwise.")
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tick())
        return joined

    def leave(self, session: Session, error: str = "") -> None:
        """Ends a session; its client is told the error."""
        session.close(error)
        if session in self.sessions:
            self.sessions.remove(session)
        self.renders.forget(session)

    def stats(self) -> dict[str, Any]:
        """What `/api/live/stats` answers."""
        people = [
            {
                "person": stage.name,
                "size": stage.painter.size,
                "pictures_per_second": round(1.0 / max(stage.picture_seconds, 1e-6), 1),
                "speech_seconds_per_second": round(stage.speech_seconds, 3),
                "sessions_offered": stage.capacity,
            }
            for stage in (opening.result() for opening in self._stages.values() if opening.done() and not opening.exception())
        ]
        return {
            "people": people,
            "load": round(self.load(), 3),
            "tick_behind_ms": round(1000 * self._late, 1),
            "batches": self.renders.batches,
            "pictures": self.renders.pictures,
            "sessions": [session.stats() for session in self.sessions],
        }

    def stop(self) -> None:
        """Ends all sessions and threads."""
        for session in list(self.sessions):
            self.leave(session)
        if self._ticking is not None:
            self._ticking.cancel()
        self.renders.stop()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._loaders.shutdown(wait=False, cancel_futures=True)

    # -------- The clock

    async def _tick(self) -> None:
        """A frame of every session, every 40 ms, as long as there are sessions."""
        grid, loop = Grid(self.clock), asyncio.get_running_loop()
        async for number in grid:
            self._late = grid.behind
            if not self.sessions:
                return
            for session in list(self.sessions):
                try:
                    self._step(session, loop)
                except Exception:  # one session must not stop the others
                    logger.exception("A live session failed.")
                    self.leave(session, "The session failed: open it again.")
            if number % LOOK_FRAMES == LOOK_FRAMES - 1:
                self._look()

    def _step(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        frame = session.talk.step()
        if frame.late and not session.missed:
            session.event("late", frame=frame.index)
        session.missed = session.missed + 1 if frame.late else 0
        if frame.heard is not None:
            session.sound_lag = self.clock.now() - frame.heard
        session.put(SOUND, stamp(SOUND, frame) + pcm(frame.sound))
        if frame.index % session.pace.stride == 0:
            session.submitted += 1

            def deliver(frame: Frame, picture: bytes | None) -> None:
                loop.call_soon_threadsafe(self._deliver, session, frame, picture)

            self.renders.submit(session, session.stage.painter, frame, deliver)

    def _deliver(self, session: Session, frame: Frame, picture: bytes | None) -> None:
        if picture is None:
            session.dropped += 1
            return
        if frame.heard is not None:
            session.lag = self.clock.now() - frame.heard
        session.put(PICTURE, stamp(PICTURE, frame) + picture)

    def _look(self) -> None:
        """Tells sessions what was dropped, and changes their pictures a second by the time that pictures took since the last look."""
        busy, pictures = self.renders.busy - self._looked[0], self.renders.pictures - self._looked[1]
        self._looked = self.renders.busy, self.renders.pictures
        load, now = busy / LOOK_SECONDS + sum(session.stage.speech_seconds for session in self.sessions), self.clock.now()
        for session in self.sessions:
            submitted, dropped = session.submitted - session.judged[0], session.dropped - session.judged[1]
            session.judged = session.submitted, session.dropped
            if dropped:
                session.event("dropped", pictures=dropped)
            more = session.pace.missing * busy / max(pictures, 1)
            if session.pace.judge(now, submitted, dropped, room=load + more <= FULL_LOAD):
                load += more
                session.event("fps", fps=session.pace.fps, reason=session.pace.reason)

    # -------- What a client sends

    def heard(self, session: Session, data: bytes) -> None:
        """Sound. What can't be sound is told, and is silence of the same length."""
        try:
            samples = session.samples.read(data)
        except InputError as error:
            session.event("error", error=str(error))
            samples = session.samples.silence(data)
        if lost := session.talk.hear(samples, self.clock.now()):
            session.event(
                "ahead",
                refused_ms=round(1000 * lost),
                error=f"More than {MAX_AHEAD:.0f} s of sound are waiting to be spoken, the rest was left out: send it as fast as it is "
                "spoken, or check the declared rate.",
            )
        self._think(session)

    def told(self, session: Session, text: str) -> None:
        """A control message. Raises InputError if there is no such message."""
        message = message_of(text)
        kind = message.get("type")
        if kind == "flush":
            if len(rest := session.samples.rest()):
                session.talk.hear(rest, self.clock.now())
            session.talk.flush(self.clock.now())
            self._think(session)
        elif kind == "cancel":
            session.samples.rest()
            session.talk.cancel()
            session.drop_sound()
            session.event("cancelled", frame=session.talk.frames)
        elif kind == "set":
            controls = message.get("controls")
            if not isinstance(controls, dict):
                raise InputError('A message of the type set has no controls: send {"type": "set", "controls": {"mouth_amp": 0.5}}.')
            session.talk.set(controls)
        else:
            raise InputError(f"There is no message of the type {kind!r}: choose flush, cancel or set.")

    def _think(self, session: Session) -> None:
        session.asked = True
        if session.thinking or session.closed:
            return
        session.thinking, session.asked = True, False
        done = self._workers.submit(session.talk.think)
        loop = asyncio.get_running_loop()
        done.add_done_callback(lambda future: loop.call_soon_threadsafe(self._thought, session, future))

    def _thought(self, session: Session, future: "concurrent.futures.Future[bool]") -> None:
        session.thinking = False
        if future.cancelled():
            return
        if (error := future.exception()) is not None:
            logger.error("The speech of a live session failed.", exc_info=error)
            self.leave(session, "The speech network failed on this sound: open the session again.")
        elif future.result() or session.asked:
            self._think(session)  # what came meanwhile, even after the worker had found nothing

    # -------- A connection

    async def serve(self, socket: fastapi.WebSocket, person: str | None) -> None:
        """Runs a session over an accepted WebSocket until one side ends it, or its reader takes nothing for `READER_SECONDS`."""
        session = None
        try:
            hello = await self._hello(socket)
            if hello is None:
                return
            session = self.join(await asyncio.shield(self.stage(person, hello.size)), hello)
            await _in_time(socket.send_json(self._ready(session)))
            tasks = [asyncio.create_task(self._send(socket, session)), asyncio.create_task(self._receive(socket, session))]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
            await _in_time(socket.close(GOING))
        except InputError as error:
            await _refuse(socket, str(error), TRY_LATER if isinstance(error, Full) else REFUSED)
        except GONE:
            pass
        except Exception:
            logger.exception("A live session failed.")
            await _refuse(socket, "The session failed: open it again.", FAILED)
        finally:
            if session is not None:
                self.leave(session)

    async def _hello(self, socket: fastapi.WebSocket) -> Hello | None:
        try:
            message = await asyncio.wait_for(socket.receive(), HELLO_SECONDS)
        except TimeoutError:
            raise InputError(
                f"There was no message for {HELLO_SECONDS:.0f} s: send the rate and the format of your samples first."
            ) from None
        return None if message["type"] == "websocket.disconnect" else Hello.parse(message.get("text"))

    def _ready(self, session: Session) -> dict[str, Any]:
        stage = session.stage
        return {
            "type": "ready",
            "person": stage.name,
            "size": stage.painter.size,
            "fps": session.pace.fps,
            "rate": SAMPLE_RATE,
            "format": "s16le",
            "frame_ms": 1000 * FRAME_SECONDS,
            "max_ahead_ms": 1000 * MAX_AHEAD,
            "sessions_offered": stage.capacity,
        }

    async def _send(self, socket: fastapi.WebSocket, session: Session) -> None:
        while (data := await session.take()) is not None:
            await _in_time(socket.send_text(data) if isinstance(data, str) else socket.send_bytes(data))

    async def _receive(self, socket: fastapi.WebSocket, session: Session) -> None:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if (data := message.get("bytes")) is not None:
                self.heard(session, data)
                continue
            try:
                self.told(session, message.get("text") or "")
            except InputError as error:
                session.event("error", error=str(error))


class Full(InputError):
    """There is no room for a further session."""


GONE = (fastapi.WebSocketDisconnect, OSError, RuntimeError)
"""Raised when the client is gone, or takes nothing (TimeoutError)."""


async def _in_time(sending: Awaitable[None]) -> None:
    """Waits for a message to be written. Raises TimeoutError if what was written before is not read for `READER_SECONDS`."""
    await asyncio.wait_for(sending, READER_SECONDS)


async def _refuse(socket: fastapi.WebSocket, sentence: str, code: int) -> None:
    with contextlib.suppress(*GONE):
        await _in_time(socket.send_json({"type": "error", "error": sentence}))
        await _in_time(socket.close(code))


# -------- Routes


def add_live_routes(app: fastapi.FastAPI, hub: LiveHub) -> None:
    """Adds `GET /live`, `GET /live/page.js`, `GET /api/live/stats` and `WS /api/live`, for `studio.server.serving`."""
    files = resources.files("geneface_jax.live")
    page, script = (files.joinpath(name).read_bytes() for name in ("page.html", "page.js"))

    @app.get("/live")
    async def live_page(person: str | None = None) -> fastapi.Response:
        hub.stage(person, None)  # so that it is ready when a session starts; what is wrong with it is told then
        return fastapi.Response(page, media_type="text/html; charset=utf-8")

    @app.get("/live/page.js")
    async def live_script() -> fastapi.Response:
        return fastapi.Response(script, media_type="text/javascript; charset=utf-8")

    @app.get("/api/live/stats")
    async def live_stats() -> dict[str, Any]:
        return hub.stats()

    @app.websocket("/api/live")
    async def live(socket: fastapi.WebSocket) -> None:
        await socket.accept()
        try:
            await hub.serve(socket, socket.query_params.get("person"))
        finally:
            # Who takes nothing would not take the goodbye either, and closing waits for that.
            asyncio.get_running_loop().call_later(READER_SECONDS, socket.scope["state"]["drop_connection"])
