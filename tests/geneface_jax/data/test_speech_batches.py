"""Corpus loading, audio normalization, network space, random windows and SyncNet pairs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.corpus import Corpus, SubjectMotion, training_corpus
from geneface_jax.data.motion import blink_and_amplitude
from geneface_jax.data.speech_batches import (
    LOWEST_LEVEL,
    MOUTH,
    SILENCE,
    NormalizedClip,
    clip_level,
    corpus_clips,
    cut_window,
    draw_sync_pairs,
    model_audio,
    positive_clips,
    sample_windows,
    silence,
    subject_clips,
)
from tests.synthetic_corpus import speech_and_motion, write_corpus
from tests.synthetic_subject import write_subject


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.load(write_corpus(tmp_path_factory.mktemp("corpus") / "c"))


@pytest.fixture(scope="module")
def pairs(corpus):
    return corpus_clips(corpus, "speaker")[0]["train"]


def test_corpus_reads_what_was_written(corpus):
    assert [clip.split for clip in corpus.clips] == ["train"] * 4 + ["val"] * 2
    clip = corpus.clips[1]
    assert clip.audio_features.shape == (2 * clip.n_frames, 80) and clip.motion.shape == (clip.n_frames, 204)
    assert {array.dtype for array in (clip.audio_features, clip.f0, clip.motion)} == {np.dtype(np.float32)}
    assert corpus.speakers == ("ada", "ben", "cleo")


@pytest.mark.parametrize(
    ("break_it", "names"),
    [
        (lambda meta, arrays: meta.update(format="x"), "format"),
        (lambda meta, arrays: arrays.pop("ada_0/f0"), "ada_0/f0"),
        (lambda meta, arrays: arrays.update({"ada_0/motion": arrays["ada_0/motion"][:-1]}), "ada_0/motion"),
        (lambda meta, arrays: arrays["ben_0/f0"].fill(np.nan), "ben_0/f0"),
        (lambda meta, arrays: [clip.update(split="train") for clip in meta["clips"]], "val"),
        (lambda meta, arrays: meta["clips"][0].pop("speaker"), "speaker"),
    ],
)
def test_a_damaged_corpus_is_refused_with_its_name(tmp_path, break_it, names):
    folder = write_corpus(tmp_path / "c")
    meta = json.loads((folder / "meta.json").read_text())
    arrays = dict(np.load(folder / "clips.npz"))
    break_it(meta, arrays)
    (folder / "meta.json").write_text(json.dumps(meta))
    np.savez(folder / "clips.npz", **arrays)
    with pytest.raises(InputError, match=names):
        Corpus.load(folder)


def test_a_missing_corpus_is_refused(tmp_path):
    with pytest.raises(InputError, match="no corpus"):
        Corpus.load(tmp_path)


def test_model_audio_does_not_hear_loudness_or_the_voices_pitch():
    mel, f0, _ = speech_and_motion(np.random.default_rng(0), 60)
    audio = model_audio(mel, f0)
    np.testing.assert_allclose(model_audio(mel - 0.7, 1.6 * f0), audio, atol=1e-5)
    assert audio.shape == (120, 82) and audio.dtype == np.float32
    assert np.abs(audio[:, :80]).max() < 4 and set(np.unique(audio[:, 81])) <= {0.0, 1.0}
    assert np.all(audio[f0 == 0, 80] == 0)


def test_model_audio_keeps_silence_silent():
    audio = model_audio(np.full((10, 80), -6.0), np.zeros(10))
    np.testing.assert_allclose(audio[:, :80], SILENCE, atol=1e-6)
    np.testing.assert_allclose(silence(10, 82), audio, atol=1e-6)
    assert clip_level(np.full((10, 80), -6.0)) == LOWEST_LEVEL == clip_level(np.zeros((0, 80)))


def test_model_audio_of_a_batch_is_that_of_its_clips():
    clips = [speech_and_motion(np.random.default_rng(seed), 20)[:2] for seed in (0, 1)]
    batch = model_audio(np.stack([mel for mel, _ in clips]), np.stack([f0 for _, f0 in clips]))
    np.testing.assert_array_equal(batch[1], model_audio(*clips[1]))
    with pytest.raises(InputError, match="differ in length"):
        model_audio(np.zeros((10, 80)), np.zeros(9))


def test_network_space_takes_the_speakers_face_away_and_gives_it_back(corpus):
    pairs, constants = corpus_clips(corpus, "speaker")
    for clip, pair in zip(corpus.of_split("val"), pairs["val"], strict=True):
        back = pair.motion * constants["motion_std"] + corpus.speaker_means[clip.speaker]
        np.testing.assert_allclose(back, clip.motion, atol=1e-5)
    mouth = np.concatenate([pair.motion[:, MOUTH] for pair in pairs["train"]])
    assert abs(np.sqrt(np.mean(mouth**2)) - 1) < 1e-4
    raw, constants = corpus_clips(corpus, "none")
    np.testing.assert_array_equal(raw["train"][0].motion, corpus.clips[0].motion)
    assert np.all(constants["motion_std"] == 1) and np.all(constants["motion_mean"] == 0)
    with pytest.raises(InputError, match="center"):
        corpus_clips(corpus, "clip")


def test_windows_keep_audio_and_motion_together(pairs):
    batch = sample_windows(np.random.default_rng(0), pairs, 8, 20)
    assert batch["audio"].shape == (8, 40, 82) and batch["mask"].min() == 1
    for audio, motion in zip(batch["audio"], batch["motion"], strict=True):
        found = [
            np.array_equal(pair.audio[2 * s : 2 * s + 40], audio)
            for pair in pairs
            for s in range(pair.n_frames - 19)
            if np.array_equal(pair.motion[s : s + 20], motion)
        ]
        assert found == [True]


def test_short_clips_are_padded_with_silence(pairs):
    window = cut_window(pairs[0], pairs[0].n_frames - 3, 8)
    np.testing.assert_array_equal(window["mask"], [1, 1, 1, 0, 0, 0, 0, 0])
    assert np.all(window["motion"][3:] == 0)
    np.testing.assert_array_equal(window["audio"][6:], silence(10, 82))


LENGTHS = (400, 199, 60, 200, 20, 1000)


def shares(**draw):
    """Each clip's share of 4,000 drawn windows, of the frames they show, and of all frames there are."""
    still = [blink_and_amplitude(np.zeros((n, 204))) for n in LENGTHS]
    clips = [
        NormalizedClip(np.zeros((2 * n, 2)), np.full((n, 204), i, np.float32), "ada", np.ones(2 * n), still[i])
        for i, n in enumerate(LENGTHS)
    ]
    drawn, seen = np.zeros(len(clips)), np.zeros(len(clips))
    for step in range(5):
        windows = sample_windows(np.random.default_rng([7, step]), clips, 800, 200, **draw)
        which = windows["motion"][:, 0, 0].astype(int)
        drawn += np.bincount(which, minlength=len(clips))
        seen += np.bincount(which, windows["mask"].sum(axis=1), minlength=len(clips))
    return drawn / drawn.sum(), seen / seen.sum(), np.array(LENGTHS) / sum(LENGTHS)


def test_every_clip_is_seen_in_proportion_to_its_length():
    drawn, seen, there = shares()
    np.testing.assert_allclose(seen, there, atol=0.02)
    # Clips of at least a window are drawn in proportion to their length, shorter ones as often as one of the window's.
    np.testing.assert_allclose(drawn, np.maximum(LENGTHS, 200) / np.maximum(LENGTHS, 200).sum(), atol=0.025)


def test_the_draw_of_version_0_1_0_is_kept_for_its_runs(pairs):
    drawn, seen, there = shares(draw="starts")
    starts = np.maximum(np.array(LENGTHS) - 199, 1)
    np.testing.assert_allclose(drawn, starts / starts.sum(), atol=0.02)
    assert seen[1] < there[1] / 50
    # To the bit: the clip numbers and starts of its code.
    rng = np.random.default_rng([9999, 3])
    starts = np.array([max(clip.n_frames - 20 + 1, 1) for clip in pairs])
    which = rng.choice(len(pairs), size=6, p=starts / starts.sum())
    expected = np.stack([cut_window(pairs[i], int(rng.integers(starts[i])), 20)["motion"] for i in which])
    np.testing.assert_array_equal(sample_windows(np.random.default_rng([9999, 3]), pairs, 6, 20, "starts")["motion"], expected)
    with pytest.raises(InputError, match="config.data.draw is 'clips'"):
        sample_windows(rng, pairs, 6, 20, "clips")


def test_sync_pairs_are_labeled_rightly():
    # Noise, so that every clip can be found again in one place only.
    rng = np.random.default_rng(1)
    pairs = [NormalizedClip(rng.normal(size=(2 * n, 82)), rng.normal(size=(n, 204)), "ada", np.ones(2 * n), None) for n in (30, 21, 12)]
    drawn = draw_sync_pairs(np.random.default_rng(0), pairs, 200)
    assert 70 < drawn["label"].sum() < 130
    sources = {"other": 0, "same": 0}
    for audio, mouth, label in zip(drawn["audio"], drawn["mouth"], drawn["label"], strict=True):

        def places(clip, name, length):
            values = [getattr(pair, name) for pair in pairs]
            step = 2 if name == "audio" else 1
            part = slice(None) if name == "audio" else MOUTH
            return {
                (i, s // step)
                for i, value in enumerate(values)
                for s in range(0, len(value) - length + 1, step)
                if np.array_equal(value[s : s + length, part], clip)
            }

        heard, seen = places(audio, "audio", 10), places(mouth, "motion", 5)
        assert bool(heard & seen) == bool(label)
        if not label:
            sources["same" if {i for i, _ in heard} & {i for i, _ in seen} else "other"] += 1
    assert sources["other"] > 10 and sources["same"] > 30


def test_positive_clips_stay_inside_the_mask_and_in_sync():
    frames = jnp.arange(20.0)
    motion = jnp.broadcast_to(frames[None, :, None], (3, 20, 204))
    audio = jnp.broadcast_to(jnp.arange(40.0)[None, :, None], (3, 40, 2))
    mask = jnp.array([[1.0] * n + [0.0] * (20 - n) for n in (20, 9, 5)])
    audio_clips, mouth = positive_clips(jax.random.key(0), jnp.arange(3), audio, motion, mask, 60)
    np.testing.assert_array_equal(audio_clips[:, 0, 0], 2 * mouth[:, 0, 0])
    last = mouth[:, -1, 0].reshape(3, 60)
    assert [float(item.max()) for item in last] == [19.0, 8.0, 4.0]
    assert float(mouth[:, 0, 0].min()) == 0.0


def test_subject_motion_splits_and_centers(tmp_path):
    subject = SubjectMotion.load(write_subject(tmp_path / "dataset", frames=88))
    assert (subject.train.n_frames, subject.val.n_frames) == (80, 8)
    assert len(subject.val.audio_features) == len(subject.val.f0) == 16
    pairs, center = subject_clips(subject, "speaker", np.full(204, 2.0, np.float32))
    np.testing.assert_allclose(pairs["train"][0].motion.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(pairs["val"][0].motion * 2.0 + center, subject.val.motion, atol=1e-5)


def test_too_short_a_subject_is_refused(tmp_path):
    with pytest.raises(InputError, match="longer video"):
        SubjectMotion.load(write_subject(tmp_path / "dataset", frames=40))


# -------- Two corpora as one


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_a_mixed_corpus_is_drawn_by_its_share_and_validated_apart(tmp_path, corpus, share):
    extra = Corpus.load(write_corpus(tmp_path / "real", frames=60, clips_per_speaker=1, seed=4))
    mixed = corpus.mixed_with(extra, share)
    assert mixed.speakers == ("ada", "ben", "cleo", "real/ada", "real/ben", "real/cleo")
    clips, _ = corpus_clips(mixed, "speaker")
    assert [len(clips[split]) for split in ("train", "val", "val_extra")] == [6, 2, 1]
    assert len(corpus_clips(corpus, "speaker")[0]["val_extra"]) == 0
    drawn = sample_windows(np.random.default_rng(0), clips["train"], 3000, 40)["mouth_amp"]
    theirs = [clip.behavior.mouth_amp for clip in clips["train"] if clip.speaker.startswith("real/")]
    assert np.isin(drawn, np.float32(theirs)).mean() == pytest.approx(share, abs=0.03)
    mouth = draw_sync_pairs(np.random.default_rng(0), clips["train"], 2000)["mouth"][:, 0, 0]
    known = np.concatenate([clip.motion[:, MOUTH.start] for clip in clips["train"] if clip.speaker.startswith("real/")])
    assert np.isin(mouth, known).mean() == pytest.approx(share, abs=0.05)


def test_a_lead_moves_the_face_earlier(corpus):
    plain, moved = (corpus_clips(corpus, "none", lead=lead)[0]["train"][0] for lead in (0, 2))
    assert moved.n_frames == plain.n_frames - 2 and len(moved.audio) == len(moved.f0) == 2 * moved.n_frames
    np.testing.assert_array_equal(moved.motion, plain.motion[2:])
    np.testing.assert_array_equal(moved.audio, plain.audio[:-4])
    later = corpus_clips(corpus, "none", lead=-3)[0]["train"][0]
    np.testing.assert_array_equal(later.motion, plain.motion[:-3])
    np.testing.assert_array_equal(later.audio, plain.audio[6:])
    assert later.n_frames == len(later.f0) // 2 == plain.n_frames - 3
    assert [corpus_clips(corpus, "none", lead=lead)[0]["train"][0].n_frames for lead in (1000, -1000)] == [1, 1]


def test_corpora_that_can_not_be_mixed_are_refused(tmp_path, corpus):
    with pytest.raises(InputError, match="between 0 and 1"):
        corpus.mixed_with(corpus, 1.0)
    folder = write_corpus(tmp_path / "other")
    arrays = dict(np.load(folder / "clips.npz"))
    np.savez(folder / "clips.npz", **{name: a[:, :60] if name.endswith("features") else a for name, a in arrays.items()})
    with pytest.raises(InputError, match="60 channels.*the same --features"):
        corpus.mixed_with(Corpus.load(folder), 0.5)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"audio_model": "hubert"}))
    with pytest.raises(InputError, match="hubert"):
        training_corpus(ConfigDict({"corpus": str(corpus.folder), "extra_corpus": str(folder), "extra_share": 0.5}))
