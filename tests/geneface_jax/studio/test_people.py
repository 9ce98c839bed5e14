"""The list of persons: found by name alone, and one that is broken leaves the others alone."""

import json
import logging

import pytest

from data_tools.errors import InputError
from tests.geneface_jax.studio.studio_server import FakeRenderer, ask, running, stand_in_networks, write_people, write_speech

pytest.importorskip("gradio")

from geneface_jax.studio import render_queue, server  # noqa: E402
from geneface_jax.studio.jobs import JobRunner  # noqa: E402
from geneface_jax.studio.people import PersonList, broken_reason  # noqa: E402
from geneface_jax.studio.security import Limits, host_names  # noqa: E402
from geneface_jax.studio.uploads import SessionFolder  # noqa: E402


def test_people_are_found_by_name_alone(tmp_path):
    folder = write_people(tmp_path / "people")
    (folder / "linked").symlink_to(folder / "anna")
    (folder / "corpus").mkdir()
    people = PersonList(folder)
    assert people.names() == ["anna", "bert"] and not people.broken()
    for name in ("../people/anna", str(folder / "anna"), "linked", "corpus", "", None, ["anna"], "."):
        with pytest.raises(InputError, match="no person"):
            people.get(name)
    assert PersonList(folder / "bert").names() == ["bert"]
    with pytest.raises(InputError, match="There is no folder"):
        PersonList(tmp_path / "nowhere")


BROKEN = {
    "empty": "{}",
    "list": "[]",
    "null": "null",
    "text": "not JSON",
    "cut": '{"size": 32, "n_fr',
    "bytes": b"\xff\xfe\x00",
    "deep": "[" * 100_000,
    "number": '{"size": "32", "n_frames": 22}',
    "negative": '{"size": 32, "n_frames": -1}',
    "consent": '{"size": 32, "n_frames": 22, "consent": ["x"]}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_person_is_listed_with_the_reason(tmp_path, caplog, content):
    folder = write_people(tmp_path / "people")
    (folder / "anna" / "dataset" / "meta.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    people = PersonList(folder)
    with caplog.at_level(logging.WARNING):
        assert people.names() == ["bert"] and people.get("bert").size == 32
        ((name, reason),) = [(person.name, person.reason) for person in people.broken()]
    assert name == "anna" and reason.startswith("anna is broken") and ": " in reason and reason.endswith(".") and "\n" not in reason
    with pytest.raises(InputError, match="anna is broken"):
        people.get("anna")
    assert len([record for record in caplog.records if "anna" in record.message]) == 1, "logged once, with the details"


def test_a_folder_in_the_place_of_a_file_is_a_reason_too(tmp_path):
    folder = write_people(tmp_path / "people")
    (folder / "anna" / "dataset" / "meta.json").unlink()
    assert PersonList(folder).names() == ["bert"] and not PersonList(folder).broken(), "still being prepared"
    (folder / "anna" / "dataset" / "meta.json").mkdir()
    assert PersonList(folder).names() == ["bert"] and PersonList(folder).broken()


def test_a_studio_with_a_broken_person_serves_the_others(tmp_path, monkeypatch):
    stand_in_networks(monkeypatch)
    folder = write_people(tmp_path / "people")
    (folder / "anna" / "dataset" / "meta.json").write_text("{}")
    speech = write_speech(tmp_path / "a.wav", 0.4).read_bytes()
    with SessionFolder(tmp_path) as workspace:
        app = server.build_app(PersonList(folder), workspace, Limits(), host_names("127.0.0.1"), JobRunner(folder))
        with running(app) as port:
            good, bad = ask(port, "GET", "/api/people").json
            assert good["name"] == "bert" and bad["name"] == "anna" and "anna is broken" in bad["broken"]
            assert str(folder) not in json.dumps(bad)
            assert ask(port, "POST", "/api/stream?person=bert", speech).status == 200
            refused = ask(port, "POST", "/api/stream?person=anna", speech)
            assert refused.status == 400 and "anna is broken" in refused.json["error"]
            config = ask(port, "GET", "/config").json
            (shown,) = [one["props"]["value"] for one in config["components"] if one["props"].get("elem_id") == "broken"]
            assert "anna is broken" in shown
            # A file that is read only when a person is opened.
            monkeypatch.setattr(render_queue, "open_person", lambda *_: {}["head"])
            refused = ask(port, "POST", "/api/stream?person=bert&precision=bf16", speech)
            assert refused.status == 400 and "bert is broken" in refused.json["error"]
            assert FakeRenderer.drawn and ask(port, "GET", "/health").status == 200


def test_the_reason_is_one_sentence_whatever_is_wrong():
    for error in (KeyError("size"), ValueError("x" * 5000), InputError("/people/a/x is damaged: make it again."), OSError(5, "I/O error")):
        reason = broken_reason("anna", error)
        assert reason.startswith("anna is broken") and len(reason) < 400 and reason.endswith(".")
