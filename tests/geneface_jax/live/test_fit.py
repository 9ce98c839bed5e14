"""A person's live network: what it learns from, and that it begins with the shipped one and ends in the person's folder."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_tools.audio.sound import save_wav
from data_tools.errors import InputError
from geneface_jax.data.corpus import Corpus, SubjectMotion
from geneface_jax.data.subject import Subject
from geneface_jax.io import checkpoints
from geneface_jax.live import fit
from geneface_jax.live.features import live_encoder, recording_features
from geneface_jax.live.fit import OWN_TIMES, TAUGHT, corpus_lessons, fit_live, person_lessons, write_lessons
from tests.geneface_jax.live.test_speech import save_network
from tests.synthetic_corpus import write_corpus, write_speaker

LEAD = 1


class Teacher:
    """Offline networks that say the loudness of the sound, around a face of their own."""

    motion_mean = np.full(204, 3.0, np.float32)

    def predict(self, audio_features, f0, temperature):
        assert temperature == 0.0
        return self.motion_mean + audio_features[::2, :1] * np.ones(204, np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.load(write_corpus(tmp_path_factory.mktemp("corpus") / "voices"))


@pytest.fixture
def features(corpus):
    channels = live_encoder()["matrix"].shape[1]
    return {clip.name: np.full((2 * clip.n_frames, channels), i, np.float16) for i, clip in enumerate(corpus.clips)}


@pytest.fixture
def person(tmp_path):
    dataset = write_speaker(tmp_path / "anna" / "dataset")
    samples = np.random.default_rng(0).normal(0.0, 0.05, 110 * 640).astype(np.float32)
    save_wav(dataset / "audio.wav", samples)
    meta = json.loads((dataset / "meta.json").read_text())
    (dataset / "meta.json").write_text(json.dumps({**meta, "audio_model": "whisper"}))
    return tmp_path / "anna"


def test_a_corpus_teaches_truth_and_what_the_offline_network_says(corpus, features):
    del features["ben_1"]
    lessons = {lesson.name: lesson for lesson in corpus_lessons(corpus, features, Teacher(), LEAD)}
    assert set(lessons) == {clip.name for clip in corpus.clips} - {"ben_1"}
    clip, lesson = corpus.clips[0], lessons[corpus.clips[0].name]
    said = clip.audio_features[::2, :1] + corpus.speaker_means[clip.speaker]
    np.testing.assert_allclose(lesson.motion, TAUGHT * said[:-LEAD] + (1 - TAUGHT) * clip.motion[LEAD:], rtol=1e-4, atol=1e-4)
    assert len(lesson.features) == 2 * len(lesson.motion) and (lesson.speaker, lesson.split) == (clip.speaker, clip.split)


def test_a_person_learns_its_own_motion_for_other_voices_and_its_truth(corpus, features, person):
    own = SubjectMotion.load(person)
    samples = np.random.default_rng(0).normal(0.0, 0.05, 110 * 640).astype(np.float32)
    lessons = list(person_lessons([corpus], features, Teacher(), own, samples))
    others, mine = ([lesson for lesson in lessons if lesson.name.startswith("own_") is kind] for kind in (False, True))
    assert [lesson.name for lesson in others] == [clip.name for clip in corpus.of_split("train")]
    clip = corpus.of_split("train")[0]
    np.testing.assert_array_equal(others[0].motion, Teacher().predict(clip.audio_features, clip.f0, 0.0))
    assert {lesson.speaker for lesson in lessons} == {own.name} and {lesson.split for lesson in others} == {"train"}
    assert [lesson.split for lesson in mine] == ["train"] * OWN_TIMES + ["val"]
    said = Teacher().predict(own.val.audio_features, own.val.f0, 0.0)
    np.testing.assert_allclose(mine[-1].motion, TAUGHT * said + (1 - TAUGHT) * own.val.motion, rtol=1e-5)
    whole = recording_features(samples, 110)
    np.testing.assert_array_equal(mine[0].features, whole[: 2 * own.train.n_frames])
    np.testing.assert_array_equal(mine[-1].features, whole[2 * own.train.n_frames :])


def test_lessons_are_a_corpus(corpus, features, tmp_path):
    lessons = list(corpus_lessons(corpus, features, Teacher(), LEAD))
    written = Corpus.load(write_lessons(tmp_path / "lessons", lessons))
    assert written.meta["audio_model"] == "whisper_live" and len(written.clips) == len(lessons)
    np.testing.assert_allclose(written.clips[1].motion, lessons[1].motion, atol=5e-3)


def test_a_persons_network_begins_with_the_shipped_one(corpus, features, person, tmp_path, monkeypatch):
    start = save_network(tmp_path / "shipped")
    np.savez(corpus.folder / fit.FEATURES, **features)
    monkeypatch.setattr(fit, "shipped_live", lambda: start)
    monkeypatch.setattr(fit.AudioToMotion, "load", lambda folder: Teacher())
    postnet = ConfigDict({"data": {"corpus": str(corpus.folder), "extra_corpus": ""}})
    assert fit_live(person, postnet, steps=1)
    made, begun = checkpoints.load(person / "live"), checkpoints.load(start)
    assert made.config.data.fingerprint == Subject.load(person).fingerprint and made.config.model == begun.config.model
    np.testing.assert_array_equal(made.state["constants"]["motion_std"], begun.state["constants"]["motion_std"])
    moved = np.abs(made.state["params"]["out"]["direction"] - begun.state["params"]["out"]["direction"]).max()
    assert 0 < moved < 1e-2
    assert sorted(path.name for path in (person / "live").iterdir() if path.name == "corpus") == []
    assert not fit_live(person, postnet, steps=1)


def test_what_is_missing_is_named_before_anything_is_written(person, tmp_path, monkeypatch):
    postnet = ConfigDict({"data": {"corpus": "", "extra_corpus": ""}})
    monkeypatch.setattr(fit, "shipped_live", lambda: tmp_path / "none")
    with pytest.raises(InputError, match=r"No corpus has a live\.npz"):
        fit_live(person, postnet)
    (person / "dataset" / "audio.wav").unlink()
    with pytest.raises(InputError, match=r"no audio\.wav"):
        fit_live(person, postnet)
    meta = json.loads((person / "dataset" / "meta.json").read_text())
    (person / "dataset" / "meta.json").write_text(json.dumps({**meta, "audio_model": "mel_f0"}))
    with pytest.raises(InputError, match="--features whisper"):
        fit_live(person, postnet)
    assert not (person / "live").exists()
