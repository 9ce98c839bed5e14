"""The page's own events over real HTTP, as a browser sends them, with stand-ins for the networks."""

import base64
import io

import pytest
from PIL import Image

pytest.importorskip("gradio")

from geneface_jax.studio import server  # noqa: E402
from geneface_jax.studio.jobs import JobRunner  # noqa: E402
from geneface_jax.studio.people import PersonList  # noqa: E402
from geneface_jax.studio.security import (
    Limits,  # noqa: E402
    host_names,  # noqa: E402
)
from geneface_jax.studio.uploads import SessionFolder  # noqa: E402
from tests.geneface_jax.studio.studio_server import Page, ask, running, stand_in_networks, write_people, write_speech  # noqa: E402


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


def test_a_render_leaves_its_result_and_nothing_else(page, tmp_path):
    (private,) = tmp_path.glob("geneface-studio-*")
    page.set("audio", page.upload("a.wav", write_speech(tmp_path / "a.wav", 0.4).read_bytes()))
    page.set("control-bg", "picture")
    page.set("control-bg-picture", page.upload("b.png", picture((64, 64))))
    assert "Done" in page.click("render")["status"]
    page.set("control-bg-picture", page.upload("cut.png", picture((64, 64))[:70]))
    for button in ("render", "preview", "landmarks", "stream"):
        assert "not a readable picture" in page.click(button)["status"]
    assert not list((private / "uploads").iterdir()) and len(list((private / "results").iterdir())) == 1


def picture(size, kind="PNG", mode="RGB"):
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind)
    return data.getvalue()


def test_a_picture_is_judged_before_it_is_decoded(page, tmp_path, monkeypatch):
    page.set("audio", page.upload("a.wav", write_speech(tmp_path / "a.wav", 0.4).read_bytes()))
    page.set("control-bg", "picture")
    uploaded = page.upload("bomb.png", picture((7000, 7000), mode="L"))
    gif = page.upload("x.png", picture((8, 8), "GIF"))
    message = {"url": "data:image/png;base64," + base64.b64encode(picture((8, 8))).decode(), "meta": {"_type": "gradio.FileData"}}
    monkeypatch.delattr(Image.Image, "convert")
    for value, words in ((uploaded, "million pixels"), (gif, "not a readable picture"), (message, "picture is missing")):
        page.set("control-bg-picture", value)
        assert words in page.click("render")["status"]


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


def test_a_page_opened_later_lists_the_jobs_started_since(page, tmp_path):
    record = '{"name": "anna", "kind": "fit", "video": "source.mp4", "size": 256, "consent": "", "state": "failed", "code": 1}'
    (tmp_path / "people" / "anna" / "studio.json").write_text(record)
    page.load()
    page.set("train-jobs", "anna")
    assert "anna" in page.click("train-jobs", "change")["train-state"]
