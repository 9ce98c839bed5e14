"""A dataset on which networks were trained is never replaced by another one."""

import json
import logging
from types import SimpleNamespace

import pytest

from data_tools import prepare as module
from data_tools.audio.offset import OpeningPredictor
from data_tools.errors import InputError
from data_tools.prepare import prepare


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Videos that are told apart by their text, and a pipeline that only notes what it was asked for; returns these notes."""
    asked = []

    class Pipeline:
        def __init__(self, settings, info, out, name, consent, workers, progress):
            self.settings, self.out, self.name, self.consent = settings, out, name, consent

        def run(self):
            asked.append(self.settings)
            self.out.mkdir(parents=True, exist_ok=True)
            settings = self.settings
            meta = {
                "name": self.name,
                "consent": self.consent,
                "size": settings.size,
                "face_model": settings.face_model,
                "audio_model": settings.audio.name,
                "crop": {"trim": list(settings.span) if settings.span else None},
                "source": {"file": settings.video.name, "sha256": settings.sha256, "recipe": settings.recipe},
            }
            (self.out / "meta.json").write_text(json.dumps(meta))
            return self.out

    monkeypatch.setattr(module, "Pipeline", Pipeline)
    monkeypatch.setattr(module, "check_video", lambda video, span, *_: (SimpleNamespace(), span))
    for name in ("anna", "other"):
        (tmp_path / f"{name}.mp4").write_text(name)
    return asked


@pytest.fixture
def anna(made, tmp_path):
    """A dataset beside a trained head."""
    out = prepare(tmp_path / "anna.mp4", tmp_path / "people" / "dataset", consent="Anna, 2026")
    (tmp_path / "people" / "head" / "checkpoints" / "100").mkdir(parents=True)
    return out


@pytest.mark.parametrize(
    ("video", "options", "sentence"),
    [
        ("other", {}, "other.mp4 is another video than theirs .anna.mp4."),
        ("anna", {"size": 256}, "--size was 512 for them, not 256"),
        ("anna", {"trim": "1-5"}, r"--trim was None for them, not \[1.0, 5.0\]"),
        ("anna", {"audio_offset": 0.1}, "--audio-offset was 0.0 for them, not 0.1"),
        ("anna", {"fix_offset": 100.0}, "--audio-offset was 0.0 for them, not 0.1"),
        ("anna", {"fix_offset": "auto", "predictor": OpeningPredictor(len, "x")}, "--fix-offset was None for them, not auto"),
    ],
)
def test_another_video_or_other_options_are_refused_before_anything_is_changed(anna, made, tmp_path, video, options, sentence):
    before = (anna / "meta.json").read_bytes()
    with pytest.raises(InputError, match=f"people holds networks .head.*{sentence}.*--out"):
        prepare(tmp_path / f"{video}.mp4", anna, consent="Somebody", **options)
    assert (anna / "meta.json").read_bytes() == before and len(made) == 1
    assert sorted(path.name for path in anna.parent.iterdir()) == ["dataset", "head"]


def test_the_same_again_is_kept_and_consent_may_change(anna, made, tmp_path):
    assert prepare(tmp_path / "anna.mp4", anna, consent="Anna, 2027") == anna
    assert json.loads((anna / "meta.json").read_text())["consent"] == "Anna, 2027" and len(made) == 1


def test_a_new_version_of_the_program_keeps_the_dataset_of_trained_networks(anna, made, tmp_path, caplog):
    meta = json.loads((anna / "meta.json").read_text())
    meta["source"]["recipe"] = "of an earlier version"
    (anna / "meta.json").write_text(json.dumps(meta))
    with caplog.at_level(logging.WARNING):
        prepare(tmp_path / "anna.mp4", anna)
    assert "kept as it is" in caplog.text and len(made) == 1


def test_without_networks_a_dataset_is_replaced(made, tmp_path):
    out = tmp_path / "people" / "dataset"
    prepare(tmp_path / "anna.mp4", out)
    prepare(tmp_path / "other.mp4", out)
    assert json.loads((out / "meta.json").read_text())["source"]["file"] == "other.mp4"
