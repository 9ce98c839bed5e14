"""The verbs `infer` and `landmarks`: arguments in, video out, one sentence and exit code 2 for bad input."""

import numpy as np
import pytest

from data_tools.audio.sound import save_wav
from data_tools.video import read_video
from geneface_jax.cli import main as cli
from geneface_jax.data.subject import FeatureTypes
from geneface_jax.inference import motion, person
from geneface_jax.inference.controls import Controls
from tests.synthetic_subject import write_subject


class FakeSpeech:
    stage = step = None
    kind = FeatureTypes()

    @classmethod
    def load(cls, folder, *, step=None, stage="postnet"):
        cls.stage, cls.step = stage, step
        return cls()

    def predict(self, audio_features, f0, *, temperature, seed):
        return np.zeros((len(f0) // 2, 204), np.float32)


@pytest.fixture
def dataset(tmp_path):
    dataset = write_subject(tmp_path / "person" / "dataset")
    save_wav(dataset / "audio.wav", np.random.default_rng(0).normal(0, 0.1, 22 * 640).astype(np.float32))
    return dataset


def test_infer_passes_its_controls_on(monkeypatch, capsys, tmp_path):
    calls = []

    def infer(subject, audio, out, controls, *, progress, debug=None, track=None):
        calls.append((subject, audio, out, controls, track))
        assert progress is True
        return person.InferenceResult(tmp_path / "a.mp4", 5.88, 147, "postnet, head and torso", 14.23)

    monkeypatch.setattr(person, "infer", infer)
    words = ["infer", "--subject", "person", "--audio", "a.wav", "--out", "a.mp4", "--mouth-amp", "0.6", "--pose", "still"]
    assert cli.main([*words, "--track", "2"]) == 0
    assert calls == [("person", "a.wav", "a.mp4", Controls(mouth_amp=0.6, pose="still"), 2)]
    said = "147 frames, 5.88 s, rendered by postnet, head and torso at 14.2 frames/s"
    assert capsys.readouterr().out.splitlines() == [said, str(tmp_path / "a.mp4")]


def test_infer_refuses_in_one_sentence(capsys, tmp_path):
    assert cli.main(["infer", "--subject", str(tmp_path / "nobody"), "--audio", "a.wav", "--out", "a.mp4"]) == 2
    assert cli.main(["infer", "--subject", "x", "--audio", "a.wav", "--out", "a.mp4", "--crf", "99"]) == 2
    assert cli.main(["infer", "--subject", "demo", "--audio", str(tmp_path), "--out", "out", "--track", "2"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "--track is for one recording" in lines.pop()
    assert len(lines) == 2 and "no subject folder" in lines[0] and "--crf is 99: give a number from 0 to 51" in lines[1]


def test_a_file_is_drawn(dataset, tmp_path, capsys):
    out = tmp_path / "file.mp4"
    words = ["landmarks", "--file", str(dataset / "arrays.npz"), "--out", str(out), "--size", "64"]
    assert cli.main(words) == 0
    assert len(list(read_video(out))) == 22 and capsys.readouterr().out.splitlines()[-1] == str(out)
    assert cli.main([*words, "--truth", str(dataset / "arrays.npz"), "--sound", str(dataset / "audio.wav")]) == 0
    frames = list(read_video(out))
    assert frames[0].shape == (64, 128, 3)


def test_predicted_landmarks_stand_beside_the_truth_for_the_subjects_own_sound(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(motion, "AudioToMotion", FakeSpeech)
    out = tmp_path / "a.mp4"
    words = ["landmarks", "--subject", str(dataset.parent), "--out", str(out), "--size", "64", "--stage", "vae", "--step", "3", "--audio"]
    assert cli.main([*words, str(dataset / "audio.wav")]) == 0
    assert next(iter(read_video(out))).shape == (64, 128, 3) and (FakeSpeech.stage, FakeSpeech.step) == ("vae", 3)
    save_wav(tmp_path / "other.wav", np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32))
    assert cli.main([*words, str(tmp_path / "other.wav")]) == 0
    frames = list(read_video(out))
    assert frames[0].shape == (64, 64, 3) and len(frames) == 13


def test_landmarks_refuses_in_one_sentence(dataset, tmp_path, capsys):
    out = ["--out", str(tmp_path / "a.mp4")]
    np.savez(tmp_path / "flat.npz", motion=np.zeros((4, 5)))
    for words, sentence in (
        (["--audio", "a.wav"], "--audio needs --subject"),
        (["--file", str(tmp_path / "none.npz")], "none.npz is missing"),
        (["--file", str(tmp_path / "flat.npz")], "shape [4, 5]"),
        (["--file", str(dataset / "arrays.npz"), "--size", "65"], "--size is 65"),
        (["--file", str(dataset / "arrays.npz"), "--temperature", "3"], "--temperature is 3.0"),
    ):
        assert cli.main(["landmarks", *words, *out]) == 2
        error = capsys.readouterr().err
        assert sentence in error and len(error.splitlines()) == 1
