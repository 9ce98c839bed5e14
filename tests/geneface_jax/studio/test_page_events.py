"""The page's own events over real HTTP, as a browser sends them, with stand-ins for the networks."""

import json
import urllib.request

import pytest

pytest.importorskip("gradio")

from geneface_jax.studio import server  # noqa: E402
from geneface_jax.studio.jobs import JobRunner  # noqa: E402
from geneface_jax.studio.render_queue import PersonList  # noqa: E402
from geneface_jax.studio.security import (
    Limits,  # noqa: E402
    host_names,  # noqa: E402
)
from geneface_jax.studio.uploads import SessionFolder  # noqa: E402
from tests.geneface_jax.studio.studio_server import ask, running, stand_in_networks, write_people, write_speech  # noqa: E402


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

    def click(self, name):
        """What the event's outputs were at its end, by the components' names."""
        target = [self.by_name[name], "click"]
        event = next(event for event in self.events if target in [list(found) for found in event["targets"]])
        data = [self.values[key] for key in event["inputs"]]
        message = {"data": data, "fn_index": event["id"], "session_hash": self.session, "trigger_id": target[0]}
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


@pytest.fixture
def page(tmp_path, monkeypatch):
    stand_in_networks(monkeypatch)
    folder = write_people(tmp_path / "people")
    with SessionFolder(tmp_path) as workspace:
        app = server.build_app(PersonList(folder), workspace, Limits(), host_names("127.0.0.1"), JobRunner(folder))
        with running(app) as port:
            yield Page(port)


def test_buttons_do_what_they_say(page, tmp_path):
    speech = write_speech(tmp_path / "my speech.wav", 1.0).read_bytes()
    assert "choose or record" in page.click("render")["status"]
    page.set("audio", page.upload("my speech.wav", speech))
    page.set("control-mouth_amp", 0.9)
    made = page.click("render")
    assert "Done" in made["status"] and made["command"].endswith("--mouth-amp 0.9") and "'my speech.wav'" in made["command"]
    path = (made["result"].get("video") or made["result"])["path"]
    answer = ask(page.port, "GET", f"/gradio_api/file={path}")
    assert answer.status == 200 and answer.body[4:8] == b"ftyp"
    assert page.click("preview")["preview-image"] is not None
    streamed = page.click("stream")["player"]
    assert ask(page.port, "GET", streamed.split('src="')[1].split('"')[0]).body[4:8] == b"ftyp"


@pytest.mark.parametrize(
    "named", ["/etc/passwd", "secret.wav", "{}/secret.wav", "{}/studio/link.wav", "http://127.0.0.1/x.wav", "file:///etc/passwd", "a\0b"]
)
def test_a_message_names_no_file_that_was_not_uploaded(page, tmp_path, named):
    """Speech elsewhere on the same machine, also by a link."""
    write_speech(tmp_path / "secret.wav", 1.0)
    (folder := tmp_path / "studio").mkdir()
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    page.set("audio", {"path": named.format(tmp_path), "meta": {"_type": "gradio.FileData"}})
    with pytest.raises(AssertionError, match="was not uploaded"):
        page.click("render")
