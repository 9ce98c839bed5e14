"""The studio over real HTTP: what it gives, and what it refuses."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_tools.errors import InputError
from data_tools.video import read_video
from geneface_jax.inference import provenance

pytest.importorskip("gradio")

from geneface_jax.studio import server  # noqa: E402
from geneface_jax.studio.jobs import JobRunner  # noqa: E402
from geneface_jax.studio.people import PersonList  # noqa: E402
from geneface_jax.studio.security import (  # noqa: E402
    MIB,
    Limits,
    host_names,  # noqa: E402
    root_path,  # noqa: E402
)
from geneface_jax.studio.uploads import SessionFolder  # noqa: E402
from tests.geneface_jax.live.live_server import Client  # noqa: E402
from tests.geneface_jax.studio.studio_server import FakeRenderer, ask, running, stand_in_networks, write_people, write_speech  # noqa: E402

LIMITS = Limits(audio_bytes=MIB, video_bytes=2 * MIB, audio_seconds=20.0, max_waiting=3, folder_bytes=64 * MIB)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """(port, workspace, folder of people) of one studio for all tests of this file."""
    root = tmp_path_factory.mktemp("studio")
    folder = write_people(root / "people")
    (folder / "secret.txt").write_text("hidden")
    with pytest.MonkeyPatch.context() as patch, SessionFolder(root) as workspace:
        stand_in_networks(patch)
        app = server.build_app(PersonList(folder), workspace, LIMITS, host_names("127.0.0.1"), JobRunner(folder))
        with running(app) as port:
            yield port, workspace, folder


@pytest.fixture
def speech(tmp_path):
    return write_speech(tmp_path / "speech.wav", 1.0).read_bytes()


def test_serves_the_page_offline(studio):
    port, *_ = studio
    page = ask(port, "GET", "/")
    assert page.status == 200 and b"geneface studio" in page.body
    assert "default-src 'self'" in page.headers["content-security-policy"]
    config = ask(port, "GET", "/config").json
    assert config["analytics_enabled"] is False and not config.get("share")
    assert {person["name"] for person in ask(port, "GET", "/api/people").json} == {"anna", "bert"}


def test_live_sessions_are_offered_and_what_is_missing_is_told_without_folders(studio):
    port, _, folder = studio
    assert b"live/page.js" in ask(port, "GET", "/live?person=anna").body
    for path, missing in (
        ("/api/live?person=anna", "postnet"),
        ("/api/live", "postnet"),
        ("/api/live?person=../anna", "no person of that name"),
    ):
        client = Client(port, path, hello={})
        told = client.until("error")[0]["error"]
        assert missing in told and str(folder) not in told
        assert client.next() is None and client.closed == 1008
    assert Client(port, "/gradio_api/queue/join").status == Client(port, "/live").status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "169.254.169.254"])
def test_foreign_hosts_are_refused(studio, host):
    assert ask(studio[0], "GET", "/", host=host or " ").status in (400, 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_foreign_origins_are_refused(studio, origin):
    port = studio[0]
    for method, path in (("POST", "/gradio_api/queue/join"), ("POST", "/api/stream?person=anna"), ("GET", "/api/people")):
        assert ask(port, method, path, b"{}" if method == "POST" else None, {"Origin": origin}).status == 403
    assert ask(port, "GET", "/health", headers={"Origin": f"http://127.0.0.1:{port}"}).status == 200


def test_no_other_file_can_be_read(studio, tmp_path):
    port, workspace, folder = studio
    link = workspace.results / "link.mp4"
    link.symlink_to(folder / "secret.txt")
    wanted = [
        "/etc/passwd",
        f"{folder}/secret.txt",
        f"{folder}/anna/dataset/meta.json",
        f"{workspace.folder}/lock",
        f"{workspace.results}/../lock",
        f"{workspace.results}/%2e%2e/lock",
        f"{workspace.results}/..%2flock",
        f"{workspace.results}/link.mp4",
        "../../../../etc/passwd",
        "http://169.254.169.254/latest",
        "https:/evil.example/",
        "%68ttp://evil.example/",
    ]
    for path in wanted:
        answer = ask(port, "GET", f"/gradio_api/file={path}")
        assert answer.status in (400, 403, 404), path
        assert b"root:" not in answer.body and b"hidden" not in answer.body and "location" not in answer.headers
    for path in (
        "/static/../../../../etc/passwd",
        "/assets/..%2f..%2fsetup.py",
        "/assets//etc/passwd",
        "/static/%2e%2e/%2e%2e/queueing.py",
    ):
        answer = ask(port, "GET", path)
        assert answer.status >= 400 and b"root:" not in answer.body and b"import" not in answer.body, path
    link.unlink()


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/proxy=http://evil.example/", "/gradio_api/vibe-code/", "/monitoring", "/gradio_api/component_server", "/docs", "/login"],
)
def test_what_the_page_does_not_use_is_closed(studio, path):
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert ask(studio[0], method, path, b"" if method != "GET" else None).status == 404


def test_no_file_is_named_by_an_address(studio):
    message = {"data": [{"path": "http://169.254.169.254/x.wav", "meta": {"_type": "gradio.FileData"}}], "fn_index": 0, "session_hash": "a"}
    answer = ask(studio[0], "POST", "/gradio_api/queue/join", json.dumps(message).encode(), {"Content-Type": "application/json"})
    assert answer.status == 400 and "upload field" in answer.json["error"]


def test_oversize_is_refused_whatever_length_is_announced(studio):
    port, workspace, _ = studio
    big = bytes(LIMITS.audio_bytes + 1)
    assert ask(port, "POST", "/api/stream?person=anna", big).status == 413
    chunk = f"{len(big):x}\r\n".encode() + big + b"\r\n0\r\n\r\n"
    assert ask(port, "POST", "/api/stream?person=anna", chunk, {"Transfer-Encoding": "chunked"}).status == 413
    assert ask(port, "POST", "/gradio_api/upload", None, {"Content-Length": str(LIMITS.video_bytes + 1)}).status == 413
    assert ask(port, "POST", "/gradio_api/queue/join", bytes(LIMITS.message_bytes + 1)).status == 413
    assert ask(port, "POST", "/api/stream?person=anna", None, {"Content-Length": "-5"}).status in (400, 413)
    assert not list(workspace.uploads.glob("*.upload"))


@pytest.mark.parametrize("body", [b"", b"not a sound", b"#EXTM3U\n/etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n", bytes(5000)])
def test_what_is_no_sound_is_refused_by_its_content(studio, body):
    answer = ask(studio[0], "POST", "/api/stream?person=anna", body)
    assert answer.status == 400 and "/" not in answer.json["error"].replace("and/or", "")


@pytest.mark.parametrize(
    "query, words",
    [
        ("person=../anna", "no person"),
        ("person=%2Fetc", "no person"),
        ("person=", "no person"),
        ("person=anna&mouth_amp=7", "mouth-amp"),
        ("person=anna&bg=/etc/passwd", "not a color"),
        ("person=anna&bg=transparent", "not a color"),
        ("person=anna&nonsense=1", "no control"),
        ("person=anna&seed=x", "number"),
    ],
)
def test_bad_orders_are_refused_in_a_sentence(studio, speech, query, words):
    answer = ask(studio[0], "POST", f"/api/stream?{query}", speech)
    assert answer.status == 400 and words in answer.json["error"]


def test_a_stream_is_a_whole_video_with_its_origin(studio, speech, tmp_path):
    answer = ask(studio[0], "POST", "/api/stream?person=bert&seed=3&bg=%23204060", speech)
    assert answer.status == 200 and answer.headers["content-type"] == "video/mp4" and answer.headers["transfer-encoding"] == "chunked"
    path = tmp_path / "stream.mp4"
    path.write_bytes(answer.body)
    frames = list(read_video(path))
    assert len(frames) == 25 and abs(frames[5][2, 2].astype(int) - [0x20, 0x40, 0x60]).max() < 16
    assert provenance.read(path).source_type.endswith("trainedAlgorithmicMedia")


def test_ten_at_once_are_served_or_refused_politely(studio, speech):
    port, workspace, _ = studio
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda seed: ask(port, "POST", f"/api/stream?person=anna&seed={seed}", speech), range(10)))
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {200, 503} and statuses.count(200) >= LIMITS.max_waiting + 1
    assert all("waiting" in answer.json["error"] and "retry-after" in answer.headers for answer in answers if answer.status == 503)
    assert ask(port, "POST", "/api/stream?person=anna", speech).status == 200


def test_a_viewer_who_leaves_ends_the_render(studio, tmp_path, monkeypatch):
    import http.client

    port, *_ = studio
    speech = write_speech(tmp_path / "long.wav", 18.0).read_bytes()
    monkeypatch.setattr(FakeRenderer, "seconds", 0.02)
    FakeRenderer.drawn = 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/api/stream?person=anna", speech)
    connection.getresponse().read(64)
    connection.sock.close()
    connection.close()
    deadline = time.monotonic() + 20
    while threading.active_count() > 100 and time.monotonic() < deadline:
        time.sleep(0.1)
    monkeypatch.setattr(FakeRenderer, "seconds", 0.0)
    # The queue is empty again: the next request is served at once, long before 450 frames would be drawn.
    assert ask(port, "POST", "/api/stream?person=bert", speech[: 44 + 32000]).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"fn_index": 999},
        {"fn_index": -1},
        {"fn_index": "0"},
        {"fn_index": None},
        {"fn_index": True},
        {"data": None},
        {"data": []},
        {"data": [[1]] * 99},
        {"data": {"a": 1}},
        {"session_hash": None},
        {"session_hash": 5},
        {"trigger_id": "x"},
        {"event_data": 3},
    ],
)
def test_malformed_events_are_refused_and_no_error_of_the_server(studio, change, caplog):
    port = studio[0]
    first = ask(port, "GET", "/config").json["dependencies"][0]
    message = {"data": [None] * len(first["inputs"]), "fn_index": first["id"], "session_hash": "malformed", "trigger_id": None} | change
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
        answer = ask(port, "POST", path, json.dumps(message).encode(), {"Content-Type": "application/json"})
        if "fn_index" in change:
            assert answer.status == 400 and "no such event" in answer.json["error"]
        elif "data" in change:
            assert answer.status == 400 and "number of values" in answer.json["error"]
        assert answer.status < 500
    for body in (b"", b"[]", b"nonsense", b'"text"', b"[" * 100_000):
        assert 400 <= ask(port, "POST", "/gradio_api/queue/join", body, {"Content-Type": "application/json"}).status < 500
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def page_upload(data, name="a.wav"):
    """(body, headers) of an upload as the page makes it."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n--x--\r\n' % (name.encode(), data)
    return body, {"Content-Type": "multipart/form-data; boundary=x"}


def test_what_is_refused_leaves_nothing(studio, speech):
    port, workspace, _ = studio
    queries = ("person=anna&pose=9000-9001", "person=nobody", "person=anna&mouth_amp=7", "person=anna&bg=x", "person=anna")
    bodies = {"person=anna": bytes(5000)}
    for query in queries:
        assert ask(port, "POST", f"/api/stream?{query}", bodies.get(query, speech)).status == 400
    assert ask(port, "POST", "/api/stream?person=anna", speech).status == 200
    until(lambda: not list(workspace.uploads.iterdir()))


def test_aborted_uploads_leave_nothing(studio):
    import socket

    port, workspace, _ = studio
    body, headers = page_upload(bytes(MIB))
    done = ask(port, "POST", "/gradio_api/upload", body, headers)
    assert done.status == 200
    body = body[: MIB // 2]
    for path, kind in (("/gradio_api/upload", headers["Content-Type"]), ("/api/stream?person=anna", "audio/wav")):
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head.encode() + body[: MIB // 4])
            until(lambda: [*workspace.uploads.iterdir(), *(one for one in workspace.cache.iterdir() if one.is_file())])
    until(lambda: not [*workspace.uploads.iterdir(), *(one for one in workspace.cache.iterdir() if one.is_file())])
    assert (workspace.folder / done.json[0]).is_file(), "a complete one stays"


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def small_studio(tmp_path, monkeypatch):
    """(port, workspace) of a studio whose folder may have 4 MiB."""
    stand_in_networks(monkeypatch)
    folder = write_people(tmp_path / "people")
    limits = Limits(video_bytes=8 * MIB, folder_bytes=4 * MIB)
    with SessionFolder(tmp_path) as workspace:
        app = server.build_app(PersonList(folder), workspace, limits, {"127.0.0.1", "example.org"}, JobRunner(folder), "/geneface")
        with running(app) as port:
            yield port, workspace


def test_the_quota_holds_for_bodies_of_unknown_length(small_studio):
    port, workspace = small_studio
    for path, (body, headers) in (
        ("/gradio_api/upload", page_upload(bytes(6 * MIB))),
        ("/api/stream?person=anna", (bytes(6 * MIB), {})),
    ):
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[i : i + 65536] for i in range(0, len(body), 65536)))
        answer = ask(port, "POST", path, chunks + b"0\r\n\r\n", {**headers, "Transfer-Encoding": "chunked"})
        assert answer.status == 507 and "disk space" in answer.json["error"]
        until(lambda: workspace.size() < MIB)


def test_the_quota_holds_under_parallel_uploads(small_studio):
    port, workspace = small_studio

    def upload(number):
        body, headers = page_upload(bytes([number]) * (3 * MIB))
        return ask(port, "POST", "/gradio_api/upload", body, headers).status

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(upload, range(6)))
    assert statuses.count(200) == 1 and statuses.count(507) == 5 and workspace.size() < 4 * MIB


def test_a_form_field_that_is_no_file_is_not_kept_in_memory(small_studio):
    port, workspace = small_studio
    for disposition in (b'form-data; name="files"', b"form-data; name=upload_id"):
        body = b"--x\r\nContent-Disposition: %s\r\n\r\n%s\r\n--x--\r\n" % (disposition, bytes(2 * MIB))
        answer = ask(port, "POST", "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status == 413 and "field of the form" in answer.json["error"]
    body, headers = page_upload(bytes(2 * MIB))
    assert ask(port, "POST", "/gradio_api/upload", body, headers).status == 200


@pytest.mark.parametrize("prefix", ["", "/geneface"])
def test_below_the_path_of_a_proxy(small_studio, prefix, tmp_path):
    """The proxy passes the browser's Host on, and takes its path from the addresses or not."""
    port, _ = small_studio
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}
    speech = write_speech(tmp_path / "a.wav", 0.4).read_bytes()
    config = ask(port, "GET", f"{prefix}/config", headers=headers, host="example.org").json
    assert config["root"] == "https://example.org/geneface"
    assert ask(port, "GET", f"{prefix}/", headers=headers, host="example.org").status == 200
    assert ask(port, "GET", f"{prefix}/health").json == {"status": "ok"}
    body, upload_headers = page_upload(speech)
    origin = {"Origin": "https://example.org"}
    assert ask(port, "POST", f"{prefix}/gradio_api/upload", body, headers | upload_headers | origin, host="example.org").status == 200
    assert ask(port, "POST", f"{prefix}/api/stream?person=anna", speech).status == 200
    for path in (
        f"{prefix}/docs",
        f"{prefix}/gradio_api/file=/etc/passwd",
        "/other/health",
        "/genefaces/health",
        "/geneface/geneface/health",
    ):
        assert ask(port, "GET", path).status in (403, 404)


def test_the_sentence_for_a_foreign_host_names_the_flag_that_helps(studio):
    for host, flag in (
        ("example.org:8080", "--allow-host example.org."),
        ("192.168.1.5", "--allow-host 192.168.1.5."),
        ("[fe80::1]:1", "fe80::1"),
    ):
        answer = ask(studio[0], "GET", "/", host=host)
        assert answer.status == 421 and flag in answer.json["error"] and "--host " not in answer.json["error"].replace("--allow-host ", "")
    answer = ask(studio[0], "GET", "/", host="a<b>c")
    assert answer.status == 421 and "<b>" not in answer.json["error"]


def test_names_of_hosts_and_paths_on_the_command_line():
    allowed = ["example.org", "Example.net:8080", "https://a.example/x", "[::1]:80", "fe80::2"]
    assert host_names("127.0.0.1", allowed) == {"127.0.0.1", "localhost", "::1", "example.org", "example.net", "a.example", "fe80::2"}
    for wrong in ("", "http://", "[", "//"):
        with pytest.raises(InputError, match="--allow-host"):
            host_names("127.0.0.1", [wrong])
    assert root_path("") == root_path("/") == "" and root_path("/a/b-c/") == "/a/b-c"
    for wrong in ("geneface", "//x", "/a b", "http://x", "/a?b", "/é"):
        with pytest.raises(InputError, match="--root-path"):
            root_path(wrong)


PROXIES = """
import os
import geneface_jax.studio  # before gradio, as whichever of its modules
import gradio
assert not [name for name in os.environ if name.lower().endswith("_proxy")], os.environ
"""


def test_proxies_of_the_environment_do_not_keep_the_studio_from_starting():
    proxies = dict.fromkeys(("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "http_proxy"), "socks5://127.0.0.1:7890")
    done = subprocess.run([sys.executable, "-c", PROXIES], env={**os.environ, **proxies}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_is_told(studio, speech, monkeypatch):
    port, workspace, _ = studio
    monkeypatch.setattr(SessionFolder, "size", lambda self: LIMITS.folder_bytes)
    assert ask(port, "POST", "/api/stream?person=anna", speech).status == 507
