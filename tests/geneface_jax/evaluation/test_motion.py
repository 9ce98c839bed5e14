"""`evaluate --motion` with a network that is known to listen, to be late, or to be deaf."""

import json

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.landmarks68 import mean_face
from geneface_jax.cli import main as cli
from geneface_jax.data.subject import FeatureTypes, Subject
from geneface_jax.evaluation import evaluate as evaluation
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.training.speech_losses import SyncExpert
from tests.synthetic_subject import write_subject

FRAMES = 220


def mouth_of(loudness):
    """[T] -> [T, 68, 3]: the lower lip follows."""
    motion = np.zeros((len(loudness), 68, 3), np.float32)
    motion[:, [65, 66, 67], 1] = -np.asarray(loudness)[:, None]
    motion[:, [56, 57, 58], 1] = -np.asarray(loudness)[:, None]
    return motion


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    dataset = write_subject(folder / "dataset", frames=FRAMES)
    with np.load(dataset / "arrays.npz") as archive:
        arrays = dict(archive)
    loudness = 2.0 + np.convolve(np.random.default_rng(0).normal(size=FRAMES + 2), np.ones(3) / 3, "valid")
    arrays["audio_features"] = np.repeat(loudness, 2)[:, None].repeat(80, 1).astype(np.float32)
    arrays["motion"] = mouth_of(loudness)
    np.savez(dataset / "arrays.npz", **arrays)
    return folder


class Network(AudioToMotion):
    kind, trained_on = FeatureTypes(), ""
    late, deaf = 0, False

    def __init__(self):
        pass

    @classmethod
    def load(cls, folder):
        return cls()

    def predict(self, audio_features, f0, *, temperature, seed):
        heard = audio_features[::2, 0]
        if self.deaf:
            heard = np.random.default_rng(len(heard)).uniform(size=len(heard))
        return 0.5 * mouth_of(np.roll(heard, self.late)).reshape(-1, 204) + 7.0


@pytest.fixture
def report(person, monkeypatch):
    def measure(**properties):
        monkeypatch.setattr(evaluation, "AudioToMotion", type("Changed", (Network,), properties))
        subject = Subject.load(person)
        return evaluation.evaluate_motion(person, subject, subject.heldout)

    return measure


def test_a_network_that_listens(report):
    found = report()
    assert found["frames"] == 20 and found["mouth_correlation"] > 0.99 and found["mouth_best_lag"] == 0
    # Half the motion: half the distance that no motion has, whatever constant is added.
    assert found["ratio_to_no_motion"] == pytest.approx(0.5, abs=0.01)
    assert found["mouth_lmd_mm"] == pytest.approx(0.5 * found["no_motion_mm"], rel=0.02)
    assert found["mouth_amplitude"] == pytest.approx(0.5, abs=0.1)
    assert found["jitter_mm"] == pytest.approx(0.5 * found["truth_jitter_mm"], rel=0.01)
    assert abs(found["other_sound_correlation"]) < 0.25
    assert "sync_auc" not in found


def test_a_network_that_is_late(report):
    found = report(late=2)
    assert found["mouth_best_lag"] == 2 and found["mouth_correlation"] < found["mouth_best_correlation"]


def test_a_deaf_network_scores_the_same_with_any_sound(report):
    found = report(deaf=True)
    assert found["other_sound_correlation"] == pytest.approx(found["mouth_correlation"])


def test_other_stretches_are_elsewhere_and_as_long():
    frames = range(200, 220)
    stretches = evaluation.other_stretches(frames, 220)
    assert len(stretches) == evaluation.CONTROL_STRETCHES
    for which in stretches:
        assert len(which) == 20 and which.min() >= 0 and which.max() < 220
        # A second away at least, counted around the end.
        assert np.all(np.minimum((which - frames) % 220, (frames - which) % 220) >= 25)
    assert evaluation.other_stretches(range(10), 49) == []


def test_the_sync_auc_needs_a_syncnet_of_the_same_features(person, monkeypatch):
    monkeypatch.setattr(evaluation, "AudioToMotion", Network)
    subject = Subject.load(person)

    class Expert(SyncExpert):
        kind, center, std = FeatureTypes(), "speaker", np.ones(204, np.float32)

        def __init__(self):
            pass

    heard = []

    def auc(expert, pairs, strangers):
        heard.append((pairs[0], strangers))
        return 0.9

    monkeypatch.setattr(evaluation, "windows_auc", auc)
    found = evaluation.evaluate_motion(person, subject, subject.heldout, expert=Expert())
    assert found["sync_auc"] == found["truth_sync_auc"] == 0.9
    (predicted, strangers), (truth, _) = heard
    assert predicted.audio.shape == (40, 82) and len(strangers) == evaluation.CONTROL_STRETCHES
    center = subject.motion_mean.reshape(-1)
    np.testing.assert_allclose(truth.motion, subject.motion[subject.heldout.start :].reshape(20, 204) - center, atol=1e-6)
    Expert.kind = FeatureTypes(audio_model="hubert")
    with pytest.raises(InputError, match="SyncNet.*hubert"):
        evaluation.evaluate_motion(person, subject, subject.heldout, expert=Expert())


def test_the_command_writes_json(person, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(evaluation, "AudioToMotion", Network)
    monkeypatch.setattr(evaluation, "find_expert", lambda folder, named: None)
    out = tmp_path / "figures.json"
    assert cli.main(["evaluate", "--subject", str(person), "--motion", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["motion"]
    assert figures["mouth_correlation"] > 0.99 and figures["ratio_to_no_motion"] < 0.6
    assert "--syncnet" in caplog.text
    assert cli.main(["evaluate", "--subject", str(person), "--syncnet", str(tmp_path)]) == 2


def test_a_report_of_a_mouth_that_never_opens_has_no_ratio():
    still = np.zeros((30, 68, 3), np.float32)
    report = evaluation.motion_report(mouth_of(np.arange(30.0)), still, mean_face())
    assert np.isnan(report["ratio_to_no_motion"]) and np.isnan(report["mouth_amplitude"])
