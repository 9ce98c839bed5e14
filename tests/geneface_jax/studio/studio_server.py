"""A studio over real HTTP in this process, with people whose networks are stand-ins."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

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
    """Draws the background with a patch that the mouth moves, `seconds` a frame; with `noise`, frames that can't be compressed."""

    seconds = 0.0
    noise = False
    drawn = 0

    def render(self, motion, cameras, eye_openness, *, background=None, transparent=False, **options):
        behind = self.subject.background if background is None else background
        for i in range(len(motion)):
            time.sleep(FakeRenderer.seconds)
            FakeRenderer.drawn += 1
            frame = np.random.default_rng(i).integers(0, 256, behind.shape, np.uint8) if FakeRenderer.noise else behind.copy()
            frame[8:24, 8:24, 1] = np.clip(128 + 40 * motion[i, 48:].mean(), 0, 255)
            yield np.concatenate([frame, np.full_like(frame[..., :1], 255)], -1) if transparent else frame


def write_people(folder: Path, size: int = 32) -> Path:
    """Two people, `anna` and `bert`, with empty work folders; returns the folder."""
    for name in ("anna", "bert"):
        write_subject(folder / name / "dataset", size=size)
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
    from geneface_jax.studio.server import free_socket, serving

    listener = free_socket(host, 0)
    server = serving(app)
    server.config.timeout_graceful_shutdown = 1
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


class Page:
    """An open page: its components' values, and clicks."""

    def __init__(self, port):
        self.port, self.session = port, "abc123"
        config = ask(port, "GET", "/config").json
        self.components = {component["id"]: component for component in config["components"]}
        self.by_name = {c["props"].get("elem_id"): c["id"] for c in config["components"] if c["props"].get("elem_id")}
        self.events = config["dependencies"]
        self.values = {key: component["props"].get("value") for key, component in self.components.items()}

    def upload(self, name, data):
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n--x--\r\n' % (name.encode(), data)
        (path,) = ask(self.port, "POST", "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}).json
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def set(self, name, value):
        self.values[self.by_name[name]] = value

    def click(self, name, kind="click"):
        """What the event's outputs were at its end, by the components' names."""
        target = [self.by_name[name], kind]
        return self._run(next(event for event in self.events if target in [list(found) for found in event["targets"]]), target[0])

    def load(self):
        """What happens when a browser opens the page."""
        event = next(event for event in self.events if any(kind == "load" for _, kind in event["targets"]))
        return self._run(event, event["targets"][0][0])

    def _run(self, event, trigger):
        data = [self.values[key] for key in event["inputs"]]
        message = {"data": data, "fn_index": event["id"], "session_hash": self.session, "trigger_id": trigger}
        joined = ask(self.port, "POST", "/gradio_api/queue/join", json.dumps(message).encode(), {"Content-Type": "application/json"})
        assert joined.status == 200, joined.body
        found, request = [None] * len(event["outputs"]), f"http://127.0.0.1:{self.port}/gradio_api/queue/data?session_hash={self.session}"
        with urllib.request.urlopen(request, timeout=60) as lines:
            for line in lines:
                message = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if message.get("msg") in ("process_generating", "process_completed") and message["success"]:
                    for i, value in enumerate(message["output"].get("data", [])):
                        if isinstance(value, str) or isinstance(value, dict) and (value.keys() - {"__type__"}):
                            found[i] = value
                if message.get("msg") == "process_completed":
                    assert message["success"], message
                    break
        names = {key: name for name, key in self.by_name.items()}
        return {names.get(key): value for key, value in zip(event["outputs"], found, strict=True)}


def main() -> None:
    """`geneface app` whose people are stand-ins: `python -m tests.geneface_jax.studio.studio_server FOLDER [options] [app's options]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="where the people are made")
    parser.add_argument("--size", type=int, default=256, help="pixels per side (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.0, help="for every frame (default %(default)s)")
    parser.add_argument("--noise", action="store_true", help="frames that can't be compressed")
    args, rest = parser.parse_known_args()
    FakeRenderer.seconds, FakeRenderer.noise = args.seconds, args.noise
    from geneface_jax.cli.main import main as geneface

    stand_in_networks(pytest.MonkeyPatch())
    sys.exit(geneface(["app", "--subject", str(write_people(args.folder, args.size)), *rest]))


if __name__ == "__main__":
    main()
