"""A corpus with a file per clip: same numbers as one in memory, bounded memory, usable while it grows."""

import json
import threading

import numpy as np
import pytest

from data_tools.corpus.build import clip_path, write_clip
from data_tools.errors import InputError
from geneface_jax.data.corpus import Clip, Corpus, LazyClip, LRUCache
from geneface_jax.data.speech_batches import LazyNormalizedClip, corpus_clips, draw_sync_pairs, sample_windows
from tests.synthetic_corpus import write_corpus


def write_streamed(source: Corpus, folder):
    """The same clips in format version 2."""
    for clip in source.clips:
        write_clip(folder, clip.name, {"audio_features": clip.audio_features, "f0": clip.f0, "motion": clip.motion})
    clips = [{"name": c.name, "speaker": c.speaker, "n_frames": c.n_frames, "split": c.split} for c in source.clips]
    meta = {**source.meta, "format_version": 2, "complete": True, "clips": clips}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture
def memory(tmp_path):
    """A version 1 corpus whose values are float16 already, so that both formats hold the same numbers."""
    folder = write_corpus(tmp_path / "one file")
    with np.load(folder / "clips.npz") as archive:
        np.savez(folder / "clips.npz", **{name: archive[name].astype(np.float16) for name in archive.files})
    return Corpus.load(folder)


@pytest.fixture
def streamed(memory, tmp_path):
    return write_streamed(memory, tmp_path / "many files")


def test_both_formats_give_the_same_clips_statistics_and_batches(memory, streamed):
    stored = Corpus.load(streamed)
    assert all(isinstance(clip, LazyClip) for clip in stored.clips) and all(isinstance(clip, Clip) for clip in memory.clips)
    for ours, theirs in zip(stored.clips, memory.clips, strict=True):
        assert (ours.name, ours.speaker, ours.split, ours.n_frames) == (theirs.name, theirs.speaker, theirs.split, theirs.n_frames)
        for array in ("audio_features", "f0", "motion"):
            np.testing.assert_array_equal(getattr(ours, array), getattr(theirs, array))
    for center in ("speaker", "none"):
        (ours, our_constants), (theirs, their_constants) = corpus_clips(stored, center), corpus_clips(memory, center)
        for name in our_constants:
            np.testing.assert_allclose(our_constants[name], their_constants[name], rtol=1e-5, atol=1e-6)
        for draw in (lambda pairs: sample_windows(np.random.default_rng(3), pairs, 16, 20), sync_draw):
            ours_drawn, theirs_drawn = draw(ours["train"]), draw(theirs["train"])
            for name in ours_drawn:
                np.testing.assert_allclose(ours_drawn[name], theirs_drawn[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(ours["val"][0].voiced, theirs["val"][0].voiced)


def sync_draw(pairs):
    return draw_sync_pairs(np.random.default_rng(4), pairs, 32)


def test_loading_and_statistics_read_no_frames(streamed, monkeypatch):
    monkeypatch.setattr(LazyClip, "read", lambda self: pytest.fail("a clip was read"))
    pairs, _ = corpus_clips(Corpus.load(streamed), "speaker")
    assert all(isinstance(pair, LazyNormalizedClip) and pair.n_frames > 0 and pair.speaker for pair in pairs["train"])


def test_memory_is_bounded_and_a_small_cache_changes_nothing(streamed):
    reads = []
    batches = {}
    for cache_bytes in (0, 250_000, 1 << 30):
        corpus = Corpus.load(streamed, cache_bytes=cache_bytes)
        cache = corpus.clips[0].cache
        pairs, _ = corpus_clips(corpus, "speaker")
        batches[cache_bytes] = [sample_windows(np.random.default_rng(step), pairs["train"], 8, 20)["motion"] for step in range(4)]
        assert cache.n_bytes <= cache_bytes
        reads.append(cache.n_bytes)
    assert reads[0] == 0 < reads[1] < reads[2]
    for step in range(4):
        np.testing.assert_array_equal(batches[0][step], batches[250_000][step])
        np.testing.assert_array_equal(batches[0][step], batches[1 << 30][step])


def test_two_scales_of_one_corpus_are_kept_apart(streamed):
    corpus = Corpus.load(streamed)
    one, _ = corpus_clips(corpus, "speaker", np.full(204, 1.0, np.float32))
    two, _ = corpus_clips(corpus, "speaker", np.full(204, 2.0, np.float32))
    np.testing.assert_allclose(one["train"][0].motion, 2.0 * two["train"][0].motion, rtol=1e-6)


def test_a_corpus_that_grows_is_read_as_it_was(streamed, memory):
    early = Corpus.load(streamed)
    extra = memory.clips[0]
    write_clip(streamed, "dora_0", {"audio_features": extra.audio_features, "f0": extra.f0, "motion": extra.motion})
    meta = json.loads((streamed / "meta.json").read_text())
    meta["clips"].append({"name": "dora_0", "speaker": "dora", "n_frames": extra.n_frames, "split": "train"})
    (streamed / "meta.json").write_text(json.dumps(meta))
    (streamed / "clips" / ".dora_1.npz.tmp.npz").write_bytes(b"half a clip")
    assert len(early.clips) == 6 and [clip.motion.shape for clip in early.clips]
    assert len(Corpus.load(streamed).clips) == 7 and Corpus.load(streamed).speakers[-1] == "dora"


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda path: path.unlink(), "ada_0.npz is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "ada_0.npz is damaged"),
        (lambda path: np.savez(path, motion=np.zeros((3, 204))), 'audio_features" is missing'),
    ],
)
def test_a_damaged_clip_is_named_when_it_is_used(streamed, break_it, sentence):
    corpus = Corpus.load(streamed)
    break_it(clip_path(streamed, "ada_0"))
    with pytest.raises(InputError, match=sentence):
        _ = corpus.clips[0].motion


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_frames": True}, '"n_frames"'),
        ({"n_frames": -5}, '"n_frames"'),
        ({"n_frames": 10**12}, '"n_frames"'),
        ({"split": "test"}, '"split".*train.*val'),
        ({"speaker": 5}, '"speaker"'),
        ({"name": "ada_1"}, "lists a clip twice"),
    ],
)
def test_a_wrong_entry_is_named(streamed, change, words):
    meta = json.loads((streamed / "meta.json").read_text())
    meta["clips"][0] |= change
    (streamed / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=words):
        Corpus.load(streamed)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "a\\..\\b", "C:/a", ""])
def test_a_name_that_leads_out_of_the_corpus_is_refused(streamed, name):
    meta = json.loads((streamed / "meta.json").read_text())
    meta["clips"][0]["name"] = name
    (streamed / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="leads out of the corpus"):
        Corpus.load(streamed)


def test_the_least_recently_used_goes_first():
    cache, made = LRUCache(3), []

    def get(key, size=1):
        return cache.get(key, lambda: (made.append(key) or key, size))

    for key in "abc":
        get(key)
    get("a"), get("d"), get("a"), get("b")
    assert made == ["a", "b", "c", "d", "b"] and cache.n_bytes == 3
    assert get("huge", 4) == "huge" and cache.n_bytes == 3


def test_threads_share_a_cache():
    cache = LRUCache(50)
    wrong = []

    def work(seed):
        for key in np.random.default_rng(seed).integers(0, 30, 2000):
            if cache.get(int(key), lambda key=key: (int(key), 5)) != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and cache.n_bytes <= 50
