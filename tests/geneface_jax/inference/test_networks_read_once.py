"""A command reads every network once."""

import collections
from pathlib import Path

import numpy as np
import pytest

from data_tools.audio.sound import save_wav
from geneface_jax.cli import main as cli
from geneface_jax.evaluation import evaluate as evaluation
from geneface_jax.evaluation import metrics
from geneface_jax.inference import person as pipeline
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import find_parts
from geneface_jax.studio.people import ListedPerson
from geneface_jax.studio.render_queue import RenderQueue
from tests.tiny_person import write_person
from tests.tiny_speech import voice_with_pauses


@pytest.fixture
def reads(monkeypatch):
    """Work folder's name -> how often the arrays of one of its checkpoints were read."""
    counted = collections.Counter()
    read = checkpoints._read

    def count(path, tree):
        counted[Path(path).parent.parent.name] += 1
        return read(path, tree)

    monkeypatch.setattr(checkpoints, "_read", count)
    return counted


def gray(person, plan, controls):
    for _ in range(plan.frames):
        yield np.full((64, 64, 3), 128, np.uint8)


@pytest.mark.parametrize("recordings", [1, 2])
def test_infer(tmp_path, monkeypatch, reads, recordings):
    monkeypatch.setattr(pipeline, "render_frames", gray)
    for i in range(recordings):
        save_wav(tmp_path / "talk" / f"{i}.wav", voice_with_pauses(0.5))
    audio, out = (tmp_path / "talk", tmp_path / "out") if recordings > 1 else (tmp_path / "talk" / "0.wav", tmp_path / "a.mp4")
    assert cli.main(["infer", "--subject", "demo", "--audio", str(audio), "--out", str(out)]) == 0
    assert reads == {"postnet": 1, "head": 1, "torso": 1}


def test_the_page(reads):
    """Two renders of one visitor."""
    parts = find_parts("demo")
    queue, person = RenderQueue(max_waiting=1, cached_persons=1), ListedPerson("demo", parts, "", 256, 1)
    assert queue.open(person) is queue.open(person)
    assert reads == {"postnet": 1, "head": 1, "torso": 1}


def test_evaluate(tmp_path, monkeypatch, reads):
    """Two versions of the frames, each rendered for its scores and for its speed, and the motion's scores after that."""
    monkeypatch.setattr(metrics, "find_lpips", lambda net, source=None: None)
    monkeypatch.setattr(evaluation, "_mediapipe_works", lambda: False)
    monkeypatch.setattr(evaluation.scores, "smoothing_report", lambda subject: {})
    person = write_person(tmp_path / "person", audio_model="whisper")
    shipped = checkpoints.load(configs.shipped("checkpoints") / "demo" / "postnet")
    with shipped.config.unlocked():
        shipped.config.data.fingerprint = ""
    checkpoints.save(person / "postnet", shipped.step, shipped.state, {"config": shipped.config})
    reads.clear()
    found = evaluation.evaluate(person, protocol="audio", out=tmp_path / "a.mp4")
    assert set(found["pixels"]) == {"rendered", "composite"} and "sync_auc" in found["motion"]
    assert reads == {"postnet": 1, "head": 1, "torso": 1, "syncnet": 1}
