"""Live sessions over real sockets in this process: stand-ins for speech and pictures, and a client."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import fastapi
import numpy as np
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from geneface_jax.data.subject import Subject
from geneface_jax.inference.controls import Controls
from geneface_jax.live.rendering import Stage
from geneface_jax.live.server import HEADER, LiveHub, add_live_routes
from geneface_jax.live.sessions import Look
from geneface_jax.studio.security import Limits, RequestFilter, host_names
from tests.geneface_jax.studio.studio_server import running

INNER_LIPS = (61, 62, 63, 65, 66, 67)


class LoudMouth:
    """Opens the mouth by the loudness of a frame, once the sound of the block after it is there; exact whatever the cuts."""

    BLOCK = 3
    DELAY = 0.24

    def __init__(self, closed):
        self._closed, self._sound = closed, np.zeros(0, np.float32)

    def push(self, samples):
        self._sound = np.concatenate([self._sound, samples])
        return self._decide(max(len(self._sound) // 640 // 3 * 3 - 3, 0))

    def flush(self):
        frames = -(-len(self._sound) // 640)
        self._sound = np.pad(self._sound, (0, frames * 640 - len(self._sound)))
        return self._decide(frames)

    def _decide(self, frames):
        sound, self._sound = self._sound[: 640 * frames].reshape(-1, 640), self._sound[640 * frames :]
        motion = np.repeat(self._closed[None], len(sound), 0).astype(np.float32)
        motion[:, 65:68, 1] -= 5.0 * np.sqrt((sound.astype(np.float64) ** 2).mean(1))[:, None].astype(np.float32)
        return motion


class FlatPainter:
    """Pictures of one color, the brighter the wider the mouth is; `seconds` a batch. Keeps the sizes of its batches.

    With `noise`, pictures that can't be compressed.
    """

    def __init__(self, closed, batch=2, reach=2, size=32, seconds=0.0, noise=False):
        self.batch, self.reach, self.size, self.seconds, self._closed = batch, reach, size, seconds, closed
        self._noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8) if noise else None
        self.batches = []

    def render(self, frames):
        self.batches.append(len(frames))
        time.sleep(self.seconds)
        found = []
        for one in frames:
            assert one.motions.shape == (2 * self.reach + 1, 68, 3)
            wide = (self._closed - one.motions[self.reach])[66, 1]
            found.append(
                self._noise if self._noise is not None else np.full((self.size, self.size, 3), np.clip(40 + 200 * wide, 0, 255), np.uint8)
            )
        return found


def stand_in_stage(subject: Subject, *, painter=None, picture_seconds=0.001, speech_seconds=0.001, name="anna") -> Stage:
    look = Look(subject)
    painter = painter or FlatPainter(look.closed)
    return Stage(name, look, painter, lambda: LoudMouth(look.closed), picture_seconds, speech_seconds)


class NoStorage:
    folder = Path("/nonexistent")


@contextlib.contextmanager
def live_server(stages, *, limits: Limits | None = None, clock=None) -> Iterator[tuple[int, LiveHub]]:
    """Serves stages: a dict by (person, size), or a function that opens one; yields the port and the hub."""
    hub = LiveHub(stages if callable(stages) else lambda person, size: stages[person, size], clock)
    app = fastapi.FastAPI()
    add_live_routes(app, hub)
    with running(RequestFilter(app, host_names("127.0.0.1"), limits or Limits(), NoStorage())) as port:
        yield port, hub
        hub.renders.stop()


class Client:
    """A session's client. With a refusal before the handshake, `status` is its HTTP status and `body` its content.

    Args:
      host: other than the server's, as in the request's head.
      buffer: bytes that the system keeps for us; few, so that one who does not read is noticed soon.
      hello: first message.
    """

    def __init__(self, port: int, path="/api/live?person=anna", *, origin=None, host=None, buffer=None, hello=None):
        plain = socket.socket()
        if buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.settimeout(20)
        plain.connect(("127.0.0.1", port))
        self.status, self.body, self.closed = 101, b"", None
        try:
            address = f"ws://{host or '127.0.0.1'}:{port}{path}"
            options = {"compression": None, "max_size": None, "open_timeout": 20, "close_timeout": 1}
            self.socket = connect(address, sock=plain, origin=origin, **options).__enter__()
        except InvalidStatus as error:
            self.status, self.body, self.closed = error.response.status_code, error.response.body, 1006
            return
        if hello is not None:
            self.tell(**hello)

    def tell(self, **message):
        self.socket.send(json.dumps(message))

    def say(self, samples):
        """Samples in -1..1 as 16-bit integers."""
        self.socket.send((np.asarray(samples) * 32767).astype("<i2").tobytes())

    def next(self):
        """The next message: a dict, of binary ones with kind, speaking, frame, pts and data; None at the end."""
        try:
            message = self.socket.recv(timeout=20)
        except ConnectionClosed as error:
            self.closed = error.rcvd.code if error.rcvd else 1006
            return None
        if isinstance(message, str):
            return json.loads(message)
        kind, speaking, number, pts = HEADER.unpack_from(message)
        found = {"kind": kind, "speaking": speaking, "frame": number, "pts": pts, "data": message[HEADER.size :]}
        return {"type": {1: "picture", 2: "sound"}[kind], "at": time.monotonic(), **found}

    def until(self, kind, seconds=20.0, **values):
        """The next message of a type (with these values), and what came before it."""
        end, before = time.monotonic() + seconds, []
        while time.monotonic() < end and (message := self.next()) is not None:
            if message["type"] == kind and all(message.get(key) == value for key, value in values.items()):
                return message, before
            before.append(message)
        raise AssertionError((kind, values, self.closed, [one for one in before if "data" not in one]))

    def collect(self, seconds):
        """All messages of the next seconds."""
        end, found = time.monotonic() + seconds, []
        while time.monotonic() < end and (message := self.next()) is not None:
            found.append(message)
        return found

    def close(self):
        if self.status == 101:
            self.socket.close()


def patient(test):
    """Tries a test of real time up to three times: other work on the machine may hold a thread up for longer than speech can wait."""

    @functools.wraps(test)
    def tried(*args, **options):
        for _ in range(2):
            with contextlib.suppress(AssertionError):
                return test(*args, **options)
        return test(*args, **options)

    return tried


def ready(port, hello=None, **options) -> Client:
    """A client whose session has begun."""
    client = Client(port, hello=hello or {"rate": 16000, "format": "s16le"}, **options)
    client.until("ready")
    return client


def brightness(message) -> float:
    """Of a picture message: how wide the mouth is in it."""
    return float(np.asarray(Image.open(io.BytesIO(message["data"]))).mean())


def tone(seconds, level=0.3):
    """As loud as speech, at 16 kHz."""
    return (level * np.sin(2 * np.pi * 200.0 * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)


def controls(**values) -> Controls:
    return Controls(**values).validate()
