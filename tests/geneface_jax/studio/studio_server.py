"""A studio over real HTTP in this process, with people whose networks are stand-ins."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from data_tools.audio.sound import save_wav
from geneface_jax.data.subject import FeatureTypes, Subject
from geneface_jax.inference.motion import AudioToMotion
from tests.synthetic_subject import write_subject
from tests.tiny_speech import StubRenderer


class FakeSpeech(AudioToMotion):
    """Predicts noise, as many frames as there is audio."""

    kind = FeatureTypes()
    follows_mouth_amp = False

    def __init__(self):
        pass

    def predict(self, audio_features, f0, *, temperature, seed, mouth_amp):
        noise = np.random.default_rng(seed).normal(size=(len(f0) // 2, 204))
        return (temperature * noise).astype(np.float32)


class FakeRenderer(StubRenderer):
    """Draws the background with a patch that the mouth moves, `seconds` a frame."""

    seconds = 0.0
    drawn = 0

    def render(self, motion, cameras, eye_openness, *, background=None, transparent=False, **options):
        behind = self.subject.background if background is None else background
        for i in range(len(motion)):
            time.sleep(FakeRenderer.seconds)
            FakeRenderer.drawn += 1
            frame = behind.copy()
            frame[8:24, 8:24, 1] = np.clip(128 + 40 * motion[i, 48:].mean(), 0, 255)
            yield np.concatenate([frame, np.full_like(frame[..., :1], 255)], -1) if transparent else frame


def write_people(folder: Path) -> Path:
    """Two people, `anna` and `bert`, with empty work folders; returns the folder."""
    for name in ("anna", "bert"):
        write_subject(folder / name / "dataset")
        for stage in ("postnet", "head", "torso"):
            (folder / name / stage / "checkpoints").mkdir(parents=True)
    return folder


def write_speech(path: Path, seconds: float = 1.0) -> Path:
    """Noise as loud as speech."""
    noise = np.random.default_rng(0).normal(0, 0.1, round(16000 * seconds))
    save_wav(path, noise.astype(np.float32))
    return path


def stand_in_networks(monkeypatch) -> None:
    """No network is read: whoever opens a person gets the stand-ins."""
    from geneface_jax.inference.person import Person
    from geneface_jax.studio import render_queue

    def open_person(parts, precision="fp32"):
        subject = Subject.load(parts.folder / "dataset")
        return Person(parts, subject, FakeSpeech(), FakeRenderer(subject))

    monkeypatch.setattr(render_queue, "open_person", open_person)


@contextlib.contextmanager
def running(app, host: str = "127.0.0.1") -> Iterator[int]:
    """Serves an ASGI app on a free port, which is yielded."""
    import uvicorn

    from geneface_jax.studio.server import free_socket

    listener = free_socket(host, 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def ask(port: int, method: str, path: str, body=None, headers=None, host: str | None = None) -> SimpleNamespace:
    """One request as written, without any client's tidying of the path: status, headers, body, json."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or f"127.0.0.1:{port}")
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None and not any(name.lower() in ("content-length", "transfer-encoding") for name in headers or {}):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if body is not None:
                connection.send(body)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    parsed = None
    with contextlib.suppress(ValueError):
        parsed = json.loads(data)
    return SimpleNamespace(status=answer.status, headers={k.lower(): v for k, v in answer.getheaders()}, body=data, json=parsed)
