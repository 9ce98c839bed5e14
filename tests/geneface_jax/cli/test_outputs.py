"""Every verb finds an output that can't be written before it works: exit code 2, one sentence, nothing made."""

import importlib

import numpy as np
import pytest

from data_tools.audio.sound import save_wav
from geneface_jax.cli.main import VERBS, main
from tests.synthetic_subject import write_subject

WORK = {
    "infer": ("geneface_jax.inference.person.open_person", "--subject demo --audio {in}/a.wav --out {bad}.mp4"),
    "infer --debug": ("geneface_jax.inference.person.open_person", "--subject demo --audio {in}/a.wav --out {in}/o.mp4 --debug {bad}"),
    "infer --live": ("geneface_jax.live.perform.open_person", "--live --subject demo --audio {in}/a.wav --out {bad}.mp4"),
    "live": ("geneface_jax.live.perform.open_person", "--person demo --input {in}/a.wav --output {bad}.mp4"),
    "live from a pipe": ("geneface_jax.live.perform.open_person", "--person demo --input - --output {bad}.mp4"),
    "infer folder": ("geneface_jax.inference.person.open_person", "--subject demo --audio {in}/sounds --out {bad}"),
    "evaluate": ("geneface_jax.evaluation.evaluate.Subject", "--subject demo --out {bad}.mp4"),
    "evaluate --json": ("geneface_jax.evaluation.evaluate.evaluate_video", "--video {in}/a.wav --json {bad}.json"),
    "landmarks": ("geneface_jax.cli.landmarks.read_motion", "--file {in}/dataset/arrays.npz --out {bad}.mp4"),
    "export": ("geneface_jax.export.open_renderer", "--subject demo --out {bad}"),
    "import-torch": ("geneface_jax.convert.release.checkpoint_folders", "{in}/dataset {bad}"),
    "prepare": ("data_tools.prepare.check_video", "{in}/a.wav --out {bad}"),
    "fit": ("geneface_jax.pipeline.prepare", "{in}/a.wav --out {bad}"),
    "prepare-corpus": ("data_tools.corpus.build.detect", "{in}/videos --out {bad}"),
    "train": ("geneface_jax.training.loop.get_stage", "--config head:demo --workdir {bad}"),
    "sweep": ("geneface_jax.training.sweep._train", "ablations/head_grid --out {bad}"),
    "crop": ("data_tools.crop.probe", "{in}/a.wav {bad}.mp4"),
    "audio": ("data_tools.audio.sound.load_audio", "{in}/a.wav --out {bad}.wav"),
    "face": ("data_tools.dataset.analyze.probe", "{in}/a.wav {bad}.npz"),
    "segmentation": ("data_tools.dataset.analyze.probe", "{in}/a.wav {bad}"),
    "background": ("data_tools.dataset.analyze.probe", "{in}/a.wav {bad}.png"),
    "light": ("data_tools.light.read_npz", "{in}/dataset {bad}"),
    "compose": ("data_tools.compose.probe", "--face {in}/a.wav --into {in}/a.wav --out {bad}.mp4"),
    "avatar": ("data_tools.avatar.clip.perform", "video --out {bad}"),
}
"""Verb, and which of its outputs -> what must not be called any more, and its arguments."""

NO_OUTPUT = {"app", "bake", "doctor", "report", "select-postnet"}
"""These write only into a folder that is there; select-postnet is below."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_subject(folder / "dataset", frames=3)
    (folder / "sounds").mkdir()
    for path in (folder / "a.wav", folder / "sounds" / "a.wav"):
        save_wav(path, np.full(16000, 0.1, np.float32))
    for name in ("a", "b"):
        (folder / "videos" / name).mkdir(parents=True)
        (folder / "videos" / name / "v.mp4").write_bytes(b"")
    (folder / "file").write_text("")
    return folder


def test_every_verb_is_here():
    assert {name.split()[0] for name in WORK} | NO_OUTPUT == set(VERBS)


@pytest.mark.parametrize(
    "bad", ["file/out", "n" * 260, "new/" + "n" * 260], ids=["a file as folder", "too long", "too long below a new one"]
)
@pytest.mark.parametrize("case", WORK)
def test_it_is_found_before_the_work(case, bad, inputs, capsys, monkeypatch, unchecked_annotations):
    worker, arguments = WORK[case]
    module, _, name = worker.rpartition(".")

    def work(*args, **kwargs):
        pytest.fail("the work began")

    monkeypatch.setattr(importlib.import_module(module), name, work)
    before = sorted(inputs.rglob("*"))
    filled = [part.replace("{in}", str(inputs)).replace("{bad}", str(inputs / bad)) for part in arguments.split()]
    assert main([case.split()[0], *filled]) == 2
    messages = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in messages if line.startswith("geneface ")]) == 1, messages
    assert "is a file" in messages[-1] or "too long a name" in messages[-1], messages
    assert sorted(inputs.rglob("*")) == before
