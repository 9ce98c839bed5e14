"""Clients that are slow, or that are gone: they cost nobody else anything."""

import http.client
import socket
import threading
import time

import pytest

pytest.importorskip("gradio")

from geneface_jax.studio import connections, server  # noqa: E402
from geneface_jax.studio.connections import PatientProtocol  # noqa: E402
from geneface_jax.studio.jobs import JobRunner  # noqa: E402
from geneface_jax.studio.people import PersonList  # noqa: E402
from geneface_jax.studio.security import MIB, Limits, host_names  # noqa: E402
from geneface_jax.studio.uploads import SessionFolder  # noqa: E402
from tests.geneface_jax.studio.studio_server import FakeRenderer, ask, running, stand_in_networks, write_people, write_speech  # noqa: E402

LIMITS = Limits(max_waiting=3, stall_seconds=0.3, max_stalled=1, folder_bytes=64 * MIB)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(port, workspace) of one studio for all tests of this file."""
    root = tmp_path_factory.mktemp("studio")
    folder = write_people(root / "people", size=256)
    with pytest.MonkeyPatch.context() as patch, SessionFolder(root) as workspace:
        stand_in_networks(patch)
        with running(server.build_app(PersonList(folder), workspace, LIMITS, host_names("127.0.0.1"), JobRunner(folder))) as port:
            yield port, workspace


@pytest.fixture
def studio(served, monkeypatch):
    """The studio, whose frames are large, so that a reader that reads nothing is noticed soon; nothing is left of an earlier test."""
    until(lambda: not ffmpegs() and not list(served[1].uploads.iterdir()))
    monkeypatch.setattr(FakeRenderer, "noise", True)
    return served


@pytest.fixture
def endless(tmp_path):
    return write_speech(tmp_path / "endless.wav", 100.0).read_bytes()


@pytest.fixture
def short(tmp_path):
    return write_speech(tmp_path / "short.wav", 0.4).read_bytes()


def send(port, text, data=b""):
    """A connection on which `text` has been sent."""
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(text.replace("\n", "\r\n").encode() + data)
    return client


def post(port, data, length=None, path="/api/stream?person=anna"):
    return send(port, f"POST {path} HTTP/1.1\nHost: 127.0.0.1:{port}\nContent-Length: {length or len(data)}\n\n", data)


def seconds_to_end(client):
    """How long it takes until the server ends the connection; what it sends before is read."""
    started = time.monotonic()
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_half_a_head_is_waited_for_so_long_and_no_longer(studio, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "head_seconds", 0.3)
    port = studio[0]
    for begin in ("", "GET /health HTTP/1.1\nHost: 127.0"):
        with send(port, begin) as client:
            assert seconds_to_end(client) < 5
    # The second request of a connection that was kept.
    with send(port, f"GET /health HTTP/1.1\nHost: 127.0.0.1:{port}\n\n") as client:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        client.sendall(b"GET /hea")
        assert seconds_to_end(client) < 5


def test_half_a_body_is_waited_for_while_it_arrives(studio, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "body_seconds", 0.3)
    monkeypatch.setattr(PatientProtocol, "body_bytes", 100)
    port, workspace = studio
    with post(port, bytes(2000), length=5000) as client:
        until(lambda: list(workspace.uploads.iterdir()))
        assert seconds_to_end(client) < 5
    until(lambda: not list(workspace.uploads.iterdir()))
    # A slow one that goes on arriving is taken.
    with post(port, bytes(100), length=3000) as client:
        for _ in range(29):
            time.sleep(0.03)
            client.sendall(bytes(100))
        assert b"HTTP/1.1 400" in client.recv(1000)


def test_many_half_open_connections_stop_nobody(studio, monkeypatch):
    """More than are kept: the oldest of them are ended, clients that send whole requests are served."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    halves = [send(studio[0], "GET /health HTTP/1.1\nHost: 1") for _ in range(60)]
    started = time.monotonic()
    assert all(ask(studio[0], "GET", "/health").status == 200 for _ in range(20)) and time.monotonic() - started < 5
    for half in halves[:30]:
        half.settimeout(10.0)  # long before `head_seconds`, however busy the machine is
        assert seconds_to_end(half) < 10
    halves[-1].settimeout(0.2)
    with pytest.raises(TimeoutError):
        halves[-1].recv(1)
    for half in halves:
        half.close()


def test_one_client_of_another_machine_takes_half_of_the_requests_at_most():
    from geneface_jax.studio.security import RequestFilter

    class Storage:
        from pathlib import Path

        folder = Path()

    requests = RequestFilter(None, {"host"}, Limits(max_requests=10), Storage())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"host")]}
    for client, active, allowed in (("10.0.0.1", 4, True), ("10.0.0.1", 5, False), ("127.0.0.1", 9, True), ("127.0.0.1", 10, False)):
        requests._clients.clear()
        requests._clients[client] = active
        assert (requests._refusal(scope, client) is None) is allowed
        assert requests._refusal(scope | {"path": "/health"}, client) is None


def test_a_reader_that_reads_nothing_costs_nobody(studio, endless, short):
    port, _ = studio
    with post(port, endless) as reader:
        assert reader.recv(15) == b"HTTP/1.1 200 OK"
        for _ in range(2):
            started = time.monotonic()
            assert ask(port, "POST", "/api/stream?person=bert", short).status == 200
            assert time.monotonic() - started < 8
        # The reader comes back: its stream goes on.
        received = 0
        while received < 4 * MIB:
            data = reader.recv(1 << 16)
            assert data
            received += len(data)


def test_of_many_readers_that_read_nothing_the_oldest_are_dropped(studio, endless):
    port, _ = studio
    readers = []
    for _ in range(3):  # at most one may be stalled
        readers.append(post(port, endless))
        assert readers[-1].recv(15) == b"HTTP/1.1 200 OK"
    assert seconds_to_end(readers[0]) < 10
    for reader in readers:
        reader.close()
    until(lambda: ask(port, "GET", "/health").status == 200 and not ffmpegs())


def ffmpegs():
    """Threads of encoders that are running."""
    return [thread for thread in threading.enumerate() if "_write_pictures" in thread.name]


def test_a_reader_is_dropped_at_the_deadline(studio, endless, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "reader_seconds", 0.5)
    port, _ = studio
    with post(port, endless) as reader:
        reader.recv(15)
        until(lambda: ffmpegs())
        time.sleep(2.0)
        until(lambda: not ffmpegs())
        assert seconds_to_end(reader) < 5


def test_who_leaves_while_waiting_gets_no_turn(studio, endless, short, monkeypatch):
    port, workspace = studio
    monkeypatch.setattr(FakeRenderer, "noise", False)
    monkeypatch.setattr(FakeRenderer, "seconds", 0.02)
    from geneface_jax.studio import render_queue

    decoded = []
    real = render_queue.accept_audio
    monkeypatch.setattr(render_queue, "accept_audio", lambda *arguments: decoded.append(arguments[0]) or real(*arguments))
    first = post(port, endless)
    first.recv(15)
    waiting = [post(port, short) for _ in range(3)]
    until(lambda: len(list(workspace.uploads.glob("*.upload"))) == 3)
    # Nothing of those who wait is decoded.
    assert len(decoded) == 1 and ask(port, "POST", "/api/stream?person=anna", short).status == 503
    for client in waiting:
        client.close()
    until(lambda: not list(workspace.uploads.iterdir()))
    first.close()
    assert ask(port, "POST", "/api/stream?person=anna", short).status == 200
    assert len(decoded) == 2, "only those who stayed were decoded"


def test_health_answers_while_every_thread_is_busy(studio, monkeypatch):
    port, _ = studio
    go = threading.Event()
    monkeypatch.setattr(PersonList, "all", lambda self: go.wait(20) and [])
    busy = [send(port, f"GET /api/people HTTP/1.1\nHost: 127.0.0.1:{port}\n\n") for _ in range(60)]
    time.sleep(0.5)
    started = time.monotonic()
    assert ask(port, "GET", "/health").status == 200 and time.monotonic() - started < 2
    go.set()
    for client in busy:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        client.close()


def test_kept_connections_serve_many_requests(studio):
    connection = http.client.HTTPConnection("127.0.0.1", studio[0], timeout=10)
    for _ in range(3):
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
    connection.close()
