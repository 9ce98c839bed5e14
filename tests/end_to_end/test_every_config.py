"""Every committed config, in every variant, trains two steps at reduced size through the command line, and the person then speaks."""

import json

import numpy as np
import pytest

from data_tools.video import read_video
from geneface_jax.cli.main import main as geneface
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.evaluate import evaluate_motion
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.person import infer
from geneface_jax.inference.renderer import open_renderer
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import find_parts
from tests.synthetic_corpus import write_corpus, write_speaker
from tests.tiny_stages import known_to

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unoptimized_programs")]

TRAIN = ["train.steps=2", "train.log_every=1", "train.eval_every=0", "train.save_every=0"]
GRID = ["levels=4", "base_resolution=4", "finest_resolution=32", "log2_table_size=8"]
VAE = ["model.condition=8", "model.hidden=8", "model.encoder_layers=1", "model.decoder_layers=1", "model.flow_blocks=1"]
VANILLA = ["data.rays=64", "model.hidden=8", "model.color_hidden=8", "model.condition_features=8", "rays.samples=4", "rays.fine_samples=4"]
SMALL = {
    "syncnet": ["data.batch=32", "data.eval_clips=64", "model.base=8"],
    "audio2motion": ["data.batch=4", "data.window=16", "loss.sync_clips=8", *VAE],
    "audio2motion_pitch": ["data.batch=4", "data.window=16", "loss.sync_clips=8", "model.pitch=4", *VAE],
    "postnet": ["data.batch=4", "data.window=16", "loss.sync_clips=8", "model.base=8"],
    "head": [
        *(f"model.{grid}.{field}" for grid in ("position_grid", "ambient_grid") for field in GRID),
        "model.hidden=16",
        "model.hidden_color=16",
        "model.geometry_features=8",
        "march.grid_resolution=16",
        "data.groups=2",
        "data.rays=64",
        "data.eval_frames=1",
    ],
    "nerf_head": [*VANILLA, "data.eval_frames=1", "data.eval_size=16"],
    "nerf_torso": [*VANILLA, "data.eval_frames=1", "data.eval_size=16"],
    "torso": [*(f"model.grid.{field}" for field in GRID), "data.groups=2", "data.rays=64", "data.eval_frames=1"],
}
SMALL["head_sr"] = [*SMALL["head"], "super_resolution.size=16", "super_resolution.features=(4, 4)", "perceptual.lip_side=16"]
SMALL["torso_sr"] = SMALL["torso"]
HEAD_OF = {"nerf_torso": "nerf_head", "torso_sr": "head_sr"}
"""Stage -> the folder of the head it is for, where that is not `head`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("every config")
    write_corpus(folder / "corpus")
    write_speaker(folder / "person" / "dataset")
    return folder


def train(folder, stage, variant, workdir, vae="audio2motion"):
    sources = {
        "data.subject": folder / "person" / "dataset",
        "data.corpus": folder / "corpus",
        "data.syncnet": folder / "models" / variant / "syncnet",
        "data.audio2motion": folder / "models" / variant / vae,
        "data.head": workdir.parent / HEAD_OF.get(stage, "head"),
    }
    wanted = [*(f"{key}={path}" for key, path in sources.items()), *SMALL[stage]]
    overrides = [f"--config.{text}" for text in [*TRAIN, *known_to(f"{stage}:{variant}", wanted)]]
    assert geneface(["train", "--config", f"configs/{stage}.py:{variant}", "--workdir", str(workdir), *overrides]) == 0
    assert checkpoints.steps(workdir) == [2]


@pytest.mark.parametrize("variant", ["reference", "demo"])
def test_trains_two_steps_and_speaks(folder, variant, monkeypatch, tmp_path):
    monkeypatch.chdir(configs.clone())
    for stage in ("syncnet", "audio2motion", "audio2motion_pitch"):
        train(folder, stage, variant, folder / "models" / variant / stage)
    train(folder, "postnet", variant, tmp_path / "postnet of the pitch-aware VAE", vae="audio2motion_pitch")
    person = tmp_path / "person"
    person.mkdir()
    (person / "dataset").symlink_to(folder / "person" / "dataset")
    for stage in ("postnet", "head", "torso"):
        train(folder, stage, variant, person / stage)
        assert json.loads((person / stage / "config.json").read_text())["variant"] == variant

    speech = configs.clone() / "data_tools" / "avatar" / "speech" / "demo_heldout.wav"
    result = infer(person, speech, tmp_path / "said.mp4", Controls(crf=30))
    frames = list(read_video(result.path))
    assert len(frames) == result.frames == 147 and frames[0].shape == (32, 32, 3)
    figures = evaluate_motion(person, Subject.load(person), range(100, 110))
    assert all(np.isfinite(value) for value in figures.values() if isinstance(value, float))


@pytest.mark.parametrize("variant", ["reference", "demo"])
def test_the_vanilla_nerf_trains_two_steps_and_renders(folder, variant, monkeypatch, tmp_path):
    monkeypatch.chdir(configs.clone())
    person = tmp_path / "person"
    person.mkdir()
    (person / "dataset").symlink_to(folder / "person" / "dataset")
    for stage in ("nerf_head", "nerf_torso"):
        train(folder, stage, variant, person / stage)
        assert json.loads((person / stage / "config.json").read_text())["variant"] == variant
    subject = Subject.load(person)
    renderer = open_renderer(find_parts(person, need_speech=False))
    (frame,) = renderer.render(subject.motion[:1], subject.cameras[:1], subject.eye_openness[:1])
    assert frame.shape == (32, 32, 3) and frame.dtype == np.uint8


@pytest.mark.parametrize("variant", ["reference", "demo"])
def test_super_resolution_trains_two_steps_and_renders(folder, variant, monkeypatch, tmp_path):
    monkeypatch.chdir(configs.clone())
    person = tmp_path / "person"
    person.mkdir()
    (person / "dataset").symlink_to(folder / "person" / "dataset")
    if variant == "demo":
        train(folder, "head", variant, person / "head")
    else:  # GeneFace++'s begins with nothing
        monkeypatch.setitem(SMALL, "head_sr", [*SMALL["head_sr"], "data.head="])
    for stage in ("head_sr", "torso_sr"):
        train(folder, stage, variant, person / stage)
    subject = Subject.load(person)
    renderer = open_renderer(find_parts(person, need_speech=False))
    (frame,) = renderer.render(subject.motion[:1], subject.cameras[:1], subject.eye_openness[:1])
    assert frame.shape == (32, 32, 3) and frame.dtype == np.uint8
