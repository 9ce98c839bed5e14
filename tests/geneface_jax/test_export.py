"""An export stands by itself: without this package it makes the pixels that the renderer makes."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.cli import main as cli
from geneface_jax.export import export_subject, flat, make_render_step, nested
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.io import checkpoints
from geneface_jax.io.weights import read_safetensors
from geneface_jax.rendering.field import torso_conditions
from tests.tiny_person import write_person


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    folder = write_person(tmp_path_factory.mktemp("export") / "anna")
    (folder / "card.md").write_text("# Anna\n\nConsent: Anna, 2026-11-21\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def exported(person):
    return export_subject(person, person.parent / "out", platforms=["cpu"])


def rendered(person, torso=True):
    renderer = SubjectRenderer.load(person, torso=torso)
    subject = renderer.subject
    motion, eyes = subject.motion_mean.reshape(1, 204), np.float32([np.median(subject.eye_openness)])
    return next(iter(renderer.render(motion, subject.cameras[:1], eyes)))


def test_the_example_of_its_page_makes_the_renderers_pixels_without_this_package(person, exported, tmp_path):
    code = re.search(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.S)[1]
    folder = shutil.copytree(exported, tmp_path / "elsewhere")
    guard = "import sys\nsys.modules.update(dict.fromkeys(('geneface_jax', 'geneface_kernels', 'data_tools')))\n"
    environment = {**os.environ, "PYTHONPATH": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", guard + code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, expected = np.asarray(Image.open(folder / "frame.png")), rendered(person)
    assert expected.std() > 5, "a picture of something"
    assert np.abs(found.astype(int) - expected).max() <= 1 and (found != expected).mean() < 1e-3


def test_the_folder_holds_everything_and_names_no_place_of_this_machine(person, exported):
    record = json.loads((exported / "config.json").read_text())
    assert record["format"] == "geneface_jax.export" and set(record["stages"]) == {"head", "torso"}
    for name, digest in record["files"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert {"render.safetensors", "render.jaxexport", "stages.safetensors", "card.md", "background.png"} <= set(record["files"])
    assert "Anna, 2026-11-21" in (exported / "card.md").read_text()
    for path in exported.iterdir():
        assert str(person.parent).encode() not in path.read_bytes(), path
    arrays = read_safetensors(exported / "stages.safetensors")
    state = checkpoints.load(person / "head").state
    np.testing.assert_array_equal(arrays["head/params/frame_codes"], state["params"]["frame_codes"])
    assert "dataset/mean_face" in arrays and not any("opt_state" in name for name in arrays)


def test_head_and_torso_follow_cameras_of_their_own(person):
    renderer = SubjectRenderer.load(person)
    step, subject = make_render_step(renderer, 0.01), renderer.subject
    camera, moved, eyes = subject.cameras[0], subject.cameras[0].copy(), np.float32([0.3])
    moved[0, 3] += 0.05
    motion = subject.motion_mean.reshape(1, 204)
    pictures = {}
    for name, (own, torso) in {"still": (camera, camera), "head": (moved, camera), "torso": (camera, moved)}.items():
        inputs = {"camera": own, "torso_camera": torso, "window": np.tile(motion, (5, 1)), "eye_openness": eyes[0]}
        pictures[name] = np.asarray(step.function(step.weights, inputs | {"background": subject.background})).astype(int)
        expected = next(iter(renderer.render(motion, own[None], eyes, torso_cameras=torso[None])))
        assert np.abs(pictures[name] - expected).max() <= 1
    assert np.abs(pictures["head"] - pictures["still"]).max() > 20 < np.abs(pictures["torso"] - pictures["still"]).max()


def test_a_torso_driven_by_the_jaw_and_looking_at_the_head_moves_as_the_renderers_does(tmp_path):
    person = write_person(tmp_path / "jaw", torso={"condition": "jaw", "head_aware": True})
    renderer = SubjectRenderer.load(person)
    step, subject = make_render_step(renderer, 0.01), renderer.subject
    assert "jaw" in step.inputs and "torso_camera" not in step.inputs
    motion, cameras, eyes = subject.motion[:2].reshape(2, 204), subject.cameras[:2], subject.eye_openness[:2]
    jaws = torso_conditions("jaw", cameras, motion, subject.mean_face, np.asarray(subject.intrinsics), subject.size)
    window = motion[np.clip(np.arange(5) - 2, 0, 1)]
    inputs = {"camera": cameras[0], "window": window, "eye_openness": eyes[0], "background": subject.background, "jaw": jaws[0]}
    picture = np.asarray(step.function(step.weights, inputs)).astype(int)
    assert np.abs(picture - next(iter(renderer.render(motion, cameras, eyes)))).max() <= 1
    other = np.asarray(step.function(step.weights, inputs | {"jaw": jaws[0] + 0.1})).astype(int)
    assert np.abs(picture - other).max() > 20


def test_a_head_alone_is_exported_over_the_background(person, tmp_path):
    shutil.copytree(person, tmp_path / "head only", ignore=shutil.ignore_patterns("torso", "card.md"))
    out = export_subject(tmp_path / "head only", tmp_path / "out", platforms=["cpu"])
    record = json.loads((out / "config.json").read_text())
    assert "torso_camera" not in record["render_step"]["inputs"] and "holds no card" in (out / "card.md").read_text()
    export_subject(tmp_path / "head only", out, platforms=["cpu"])  # an earlier export is replaced


def test_flat_and_nested_are_inverse():
    tree = {"a": {"b": np.zeros(2), "c": {"d": np.ones(1)}}, "e": np.zeros(3)}
    back = nested("x", {**flat("x", tree), "occupied": np.zeros(1), "xy/a": np.zeros(1)})
    assert back.keys() == tree.keys() and back["a"]["c"]["d"] == 1 and "b" in back["a"]


def test_what_cannot_be_exported_is_refused_in_one_sentence(person, tmp_path, capsys):
    with pytest.raises(InputError, match="--platforms is 'abacus': choose among cpu, cuda"):
        export_subject(person, tmp_path / "out", platforms=["abacus"])
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="is no earlier export"):
        export_subject(person, tmp_path / "mine")
    assert cli.main(["export", "--subject", str(tmp_path / "nobody"), "--out", str(tmp_path / "out")]) == 2
    assert cli.main(["export", "--subject", str(person), "--out", str(tmp_path / "out"), "--end-threshold", "2"]) == 2
    sentences = capsys.readouterr().err
    assert "no subject folder" in sentences and "--end-threshold is 2.0" in sentences
