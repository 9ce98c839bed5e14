"""`import geneface_jax`: what it costs, its names, and the sentences for a person that can't be loaded."""

import ast
import inspect
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import geneface_jax as gf
from data_tools.encoder import check_output
from data_tools.video import read_video
from geneface_jax.inference import person as module
from tests.synthetic_subject import write_subject
from tests.tiny_speech import StubRenderer, tiny_person, voice_with_pauses

PACKAGE = Path(gf.__file__).parent


class Counting(StubRenderer):
    """Renders frames of a growing gray, and counts them."""

    count = 0

    def render(self, motion, cameras, eye_openness, **options):
        for number in range(len(motion)):
            type(self).count += 1
            yield np.full((64, 64, 3), number, np.uint8)


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    return tiny_person(tmp_path_factory.mktemp("person"), Counting)


# -------- The package


def test_importing_the_package_imports_nothing_of_weight():
    heavy = ["jax", "numpy", "flax", "cv2", "mediapipe", "librosa", "ml_collections", "geneface_jax.cli", "data_tools"]
    code = f"import sys, geneface_jax; dir(geneface_jax); print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_type_checkers_see_the_names_that_are_there():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    seen = {alias.asname: (node.module, alias.name) for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == gf._SOURCES


@pytest.mark.parametrize("name", [name for name in gf.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name):
    value = getattr(gf, name)
    assert inspect.getdoc(value), name
    assert name in dir(gf) and getattr(gf, name) is value


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Persn'"):
        _ = gf.Persn
    with pytest.raises(ImportError):
        exec("from geneface_jax import Persn")


# -------- A person that speaks


def test_a_person_speaks_and_its_frames_are_rendered_when_they_are_wanted(person, tmp_path):
    Counting.count = 0
    talk = person.speak(voice_with_pauses(1.0), gf.Controls(mouth_amp=0.5))
    assert Counting.count == 0 and len(talk) == 25 and talk.seconds == 1.0
    assert talk.motion.shape == talk.landmarks.shape == (25, 68, 3)
    np.testing.assert_allclose(talk.landmarks, person.subject.mean_face + talk.motion / 10, atol=1e-6)
    assert [frame[0, 0, 0] for frame in itertools.islice(talk, 3)] == [0, 1, 2]
    assert Counting.count == 3, "one frame at a time"
    assert [frame[0, 0, 0] for frame in talk] == list(range(25)), "iterating again starts again"
    assert talk.save(tmp_path / "talk.mp4") == tmp_path / "talk.mp4"
    assert len(list(read_video(tmp_path / "talk.mp4"))) == 25


def test_progress_is_a_bar_or_a_function(person, tmp_path, capsys):
    talk, seen = person.speak(voice_with_pauses(0.4)), []
    talk.save(tmp_path / "a.mp4", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 10) for number in range(1, 11)] and not capsys.readouterr().err
    talk.save(tmp_path / "b.mp4", progress=True)
    assert "rendering" in capsys.readouterr().err


def test_a_notebook_shows_a_short_video_and_names_a_long_one(person, monkeypatch):
    talk = person.speak(voice_with_pauses(0.4))
    assert talk._repr_html_().startswith('<video controls src="data:video/mp4;base64,')
    monkeypatch.setattr(module, "DISPLAY_SECONDS", 0.1)
    assert "use <code>.save" in talk._repr_html_() and "<video" not in talk._repr_html_()
    assert "10 frames, 0.40 s" in repr(talk) and "44" not in repr(talk)


@pytest.mark.parametrize(
    "samples, sentence",
    [
        (np.zeros(16000, np.float32), "The recording is silent"),
        (np.ones((2, 16000), np.float32), "give one channel"),
        (np.ones(16000, np.int16), "an array of int16"),
        (np.full(16000, np.nan), "not finite"),
        (np.ones(0, np.float32), "silent"),
        (np.ones(160, np.float32), "0.2 s are needed"),
    ],
)
def test_samples_that_are_no_speech_are_sentences(person, samples, sentence):
    with pytest.raises(gf.InputError, match=sentence):
        person.speak(samples)


def test_wrong_calls_are_sentences_before_anything_is_rendered(person, tmp_path):
    Counting.count = 0
    for wrong, sentence in (
        (lambda: person.speak("nowhere.wav"), "no file nowhere.wav"),
        (lambda: person.speak(voice_with_pauses(0.4), gf.Controls(mouth_amp=2.0)), "--mouth-amp is 2.0"),
        (lambda: person.speak(voice_with_pauses(0.4), gf.Controls(n_samples_per_ray=8)), "no vanilla NeRF"),
        (lambda: person.speak(voice_with_pauses(0.4)).save(tmp_path / "talk.avi"), "not an .mp4"),
        (lambda: check_output(tmp_path / "a.gif", gf.Controls(), False), "not an .mp4"),
    ):
        with pytest.raises(gf.InputError, match=sentence):
            wrong()
    assert Counting.count == 0


# -------- Loading


def test_the_dataset_is_read_once(monkeypatch):
    calls = []
    load = gf.Subject.load.__func__
    monkeypatch.setattr(gf.Subject, "load", classmethod(lambda cls, folder: calls.append(folder) or load(cls, folder)))
    person = gf.Person.load("demo")
    assert len(calls) == 1 and person.renderer.subject is person.subject
    assert person.size == 256 and "postnet, head and torso" in repr(person)


def test_a_person_that_can_not_be_loaded_is_a_sentence(tmp_path):
    half = tmp_path / "half"
    write_subject(half / "dataset", frames=44)
    (half / "postnet" / "checkpoints").mkdir(parents=True)
    foreign = tmp_path / "foreign"
    (foreign / "photos").mkdir(parents=True)
    empty = tmp_path / "empty"
    shutil.copytree(half, empty)
    for stage in ("head", "torso"):
        (empty / stage / "checkpoints").mkdir(parents=True)
    damaged = tmp_path / "damaged"
    shutil.copytree(half, damaged)
    (damaged / "dataset" / "meta.json").write_text(json.dumps({"format": "something else"}))
    for stage in ("head", "torso"):
        (damaged / stage / "checkpoints").mkdir(parents=True)
    for folder, sentence in (
        (tmp_path / "nobody", "geneface fit"),
        ("dmeo", "demo"),
        (half, "no trained head/"),
        (foreign, "has no dataset/"),
        (empty, "checkpoint"),
        (damaged, "meta.json"),
        (half / "dataset" / "meta.json", "meta.json"),
    ):
        with pytest.raises(gf.InputError, match=sentence) as raised:
            gf.Person.load(folder)
        assert "\n" not in str(raised.value)
    with pytest.raises(gf.InputError, match="choose fp32, bf16"):
        gf.Person.load("demo", precision="fp16")


# -------- Configs


def test_a_config_takes_values_of_its_keys_types(tmp_path):
    config = gf.load_config("head:demo", {"train.steps": 7, "optimizer.lr": 1, "data.subject": tmp_path, "train.freeze": ["a"]})
    assert (config.train.steps, config.optimizer.lr, config.data.subject) == (7, 1.0, str(tmp_path))
    assert isinstance(config.optimizer.lr, float) and config.train.freeze == ("a",)
    assert gf.load_config("head:demo", {"train.steps": "7"}) == gf.load_config("head:demo", ["train.steps=7"])
    for changes, sentence in (
        ({"train.stepz": 7}, "did you mean --config.train.steps"),
        ({"train.steps": 7.5}, "not of the key's type int"),
        ({"train.steps": True}, "not of the key's type int"),
        ({"train.steps": "many"}, "not of the key's type int"),
        ({"data.subject": 3}, "not of the key's type str"),
        ({"train": 3}, "is a group of keys"),
    ):
        with pytest.raises(gf.InputError, match=sentence):
            gf.load_config("head:demo", changes)
    with pytest.raises(gf.InputError, match="did you mean head"):
        gf.load_config("haed:demo")
