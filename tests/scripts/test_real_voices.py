"""The bench of real voices: who is whom, what is held out, what the means are over; and the corpus of GRID."""

import json
import sys

import numpy as np
import pytest

from data_tools.audio.sound import MEL_F0, SAMPLES_PER_FRAME, AudioFeatures
from data_tools.avatar.speakers import sentence_clips
from data_tools.errors import InputError
from geneface_jax.data.corpus import Corpus, SubjectMotion
from geneface_jax.evaluation.lips import CLOSING, Phone
from geneface_jax.inference.opening import OpeningMap
from scripts import grid_corpus
from scripts.bench import real_voices
from scripts.bench.degraded_sound import FAULTS
from scripts.bench.real_voices import (
    Recording,
    control_tracks,
    delayed,
    figures,
    find_videos,
    folds_of,
    over_persons,
    recognized_phones,
    write_dataset,
)


def recording(name="anna", person="anna", frames=150, seed=0) -> Recording:
    rng = np.random.default_rng(seed)
    motion = np.zeros((frames, 68, 3), np.float32)
    motion[:, 66, 1] = -np.abs(np.convolve(rng.normal(size=frames + 6), np.ones(7) / 7, "valid"))
    return Recording(name, person, motion, rng.normal(size=frames * SAMPLES_PER_FRAME).astype(np.float32), None)


def test_a_subfolder_is_a_person_and_a_pattern_may_say_who_it_is(tmp_path):
    for path in ("ada/1.mp4", "ada/2.mov", "ben_1.mp4", "ben_2.mp4", "notes.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert [(name, person) for _, name, person in find_videos(tmp_path, None, None)] == [
        ("ada/1", "ada"), ("ada/2", "ada"), ("ben_1", "ben_1"), ("ben_2", "ben_2"),
    ]  # fmt: skip
    named = [(name, person) for _, name, person in find_videos(tmp_path, ["ben_1", "ben_2", "1"], "^([a-z]+)_")]
    assert named == [("ada/1", "ada"), ("ben_1", "ben"), ("ben_2", "ben")]


def test_means_are_over_persons_not_clips():
    mean, interval, persons = over_persons([0.0, 0.0, 0.0, 1.0, float("nan")], ["a", "a", "a", "b", "c"])
    assert (mean, persons) == (0.5, 2) and interval == [0.0, 1.0]
    assert over_persons([float("nan")], ["a"])[2] == 0


def test_short_clips_have_three_folds_and_every_frame_is_predicted_once():
    assert folds_of(1000) == [range(750, 1000)]
    folds = folds_of(200)
    assert [frame for fold in folds for frame in fold] == list(range(200)) and len(folds) == 3


def test_sound_is_moved_by_samples_with_silence_at_its_ends():
    samples = np.arange(1.0, 7.0)
    np.testing.assert_array_equal(delayed(samples, 2), [0, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(delayed(samples, -2), [3, 4, 5, 6, 0, 0])
    np.testing.assert_array_equal(delayed(samples, 0), samples)


def test_the_control_is_other_persons_sound_or_ones_own_from_elsewhere():
    recordings = [recording(str(i), person, seed=i) for i, person in enumerate("aab")]
    tracks = [np.full(150, float(i)) for i in range(3)]
    assert [track[0] for track in control_tracks(0, recordings, tracks)] == [2.0]
    alone = control_tracks(0, recordings[:1], [np.arange(150.0)])
    assert len(alone) == 5 and all(25 <= track[0] <= 125 for track in alone)


def test_figures_of_a_late_prediction():
    truth = recording()
    row = figures(truth.opening, truth, np.roll(truth.opening, 2), [recording(seed=5).opening])
    assert row["lag0"] == pytest.approx(1.0) and row["lag0_raw"] < 0.9
    assert (row["best_lag"], row["best_lag_after_offset"]) == (2, 0) and abs(row["other_sound"]) < 0.6


def test_part_of_a_clip_is_a_dataset_of_the_speech_stages(tmp_path):
    clip, features = recording(), np.zeros((300, 160), np.float32)
    features[:, 0] = np.arange(300)
    seen = np.setdiff1d(np.arange(150), range(50, 100))
    write_dataset(tmp_path, clip, seen, features, np.zeros(300, np.float32), AudioFeatures("whisper", len, "abc"))
    person = SubjectMotion.load(tmp_path)
    assert (person.train.n_frames, person.val.n_frames, person.kind.audio_model) == (90, 10, "whisper")
    assert person.train.audio_features[99, 0] == 99 and person.train.audio_features[100, 0] == 200, "the frames of the gap are left out"


@pytest.fixture
def sentences():
    """One clip of every held-out talker and of two others, whose faces differ."""
    clips = []
    for i, talker in enumerate((*grid_corpus.VAL, "s1", "s4")):
        clip = recording(talker, talker, 60, i)
        words = (Phone(0.5, 1.0, "bin"),) if talker == "s1" else ()
        clips.append(grid_corpus.GridClip(f"{talker}_x", talker, clip.motion.reshape(60, 204) + i, clip.samples, words))
    return clips


def features(channels: int) -> AudioFeatures:
    def compute(samples, n_frames):
        rng = np.random.default_rng(n_frames)
        return rng.normal(size=(2 * n_frames, channels)).astype(np.float32), np.zeros(2 * n_frames, np.float32)

    return AudioFeatures("whisper", compute, "abc")


def test_the_corpus_of_grid_has_no_faces_and_whole_talkers_are_held_out(sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(grid_corpus, "avatar_rows", lambda features: ())
    for name in ("a", "b"):
        grid_corpus.write_corpus(tmp_path / name, sentences, features(8))
    corpus = Corpus.load(tmp_path / "a")
    assert {clip.speaker for clip in corpus.of_split("val")} == set(grid_corpus.VAL)
    recordings = Corpus(corpus.folder, corpus.meta, tuple(clip for clip in corpus.clips if "~" not in clip.name))
    assert max(np.abs(mean).max() for mean in recordings.speaker_means.values()) < 1e-3
    takes = [clip for clip in corpus.clips if "~" in clip.name]
    assert len(takes) == grid_corpus.TAKES * len(recordings.of_split("train")) and {clip.split for clip in takes} == {"train"}
    meta = json.loads((tmp_path / "a" / "meta.json").read_text())
    assert (meta["audio_model"], meta["audio_weights"]) == ("whisper", "abc")
    assert [clip.get("words") for clip in meta["clips"]].count(["bin"]) == 1
    with np.load(tmp_path / "a" / "clips.npz") as archive:
        np.testing.assert_allclose(archive["s1_x/opening"], sentences[4].opening, atol=1e-3)
        np.testing.assert_allclose(archive["s1_x/word_times"], [[0.5, 1.0]])
        assert all(archive[name].dtype == np.float16 for name in archive.files)
    notice = (tmp_path / "a" / "NOTICE").read_text()
    assert "Creative Commons Attribution 4.0" in notice and "6 talkers" in notice
    assert OpeningMap.load(tmp_path / "a" / "opening.npz").audio_model == "whisper"
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_features_that_hold_the_sound_are_not_given_away(sentences, tmp_path):
    for refused in (features(161), MEL_F0):
        with pytest.raises(InputError, match="may not be given away: use --features whisper"):
            grid_corpus.write_corpus(tmp_path / "out", sentences, refused)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_sound_is_as_long_as_it_was_and_finite(fault):
    seconds = np.arange(32000) / 16000.0
    speech = (0.1 * np.sin(2 * np.pi * 150 * seconds) * (1 + np.sin(2 * np.pi * 4 * seconds))).astype(np.float32)
    changed = FAULTS[fault](speech)
    assert changed.shape == speech.shape and changed.dtype == np.float32 and np.isfinite(changed).all() and np.abs(changed).max() < 3.0
    assert (fault == "clean") == np.array_equal(changed, speech)


def test_clips_that_cannot_be_measured_are_named_and_left_out(tmp_path, capsys):
    (tmp_path / "bad.mp4").write_bytes(bytes(range(256)))
    assert real_voices.read_recording(tmp_path / "bad.mp4", "bad", "bad", tmp_path / "work") is None
    assert capsys.readouterr().out.startswith("bad is left out: ")


def test_phones_of_a_recording_are_recognized_at_their_times():
    pytest.importorskip("pocketsphinx")
    clip = sentence_clips("ines")[0]
    found = recognized_phones(clip.samples)
    true = [0.5 * (phone.start + phone.end) for phone in clip.phonemes if phone.ipa in CLOSING]
    heard = [0.5 * (phone.start + phone.end) for phone in found if phone.name in CLOSING]
    assert heard and np.median([min(abs(time - other) for other in true) for time in heard]) < 0.08
    assert not [phone for phone in recognized_phones(np.zeros(16000, np.float32)) if phone.name in CLOSING]


def test_the_package_that_recognizes_phones_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(InputError, match=r"need the package pocketsphinx: run `pip install 'geneface_jax\[align\]'`"):
        recognized_phones(np.zeros(1600, np.float32))
