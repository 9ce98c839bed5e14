"""The committed recordings: whole frames, phonemes in order and where the sound is."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.avatar.speakers import VISEMES, excerpt, recording, sentence_clips, voices
from data_tools.errors import InputError

ALL = [*voices(), "demo_heldout", "demo_unseen"]


def test_enough_speakers_and_two_held_out():
    splits = list(voices().values())
    assert splits.count("train") >= 16 and splits.count("val") == 2 and splits.count("demo") == 1


@pytest.mark.parametrize("name", ALL)
def test_phonemes_follow_each_other_inside_the_recording(name):
    clip = recording(name)
    assert len(clip.samples) == clip.n_frames * 640
    assert 0.05 < np.abs(clip.samples).max() < 1.0
    edges = np.array([(p.start, p.end) for p in clip.phonemes])
    assert np.all(edges[:, 1] > edges[:, 0]) and np.all(np.diff(edges[:, 0]) >= 0)
    assert edges[0, 0] > 0.2 and edges[-1, 1] < clip.n_frames / 25
    known = np.mean([any(letter in VISEMES for letter in p.ipa) for p in clip.phonemes])
    assert known > 0.98


@pytest.mark.parametrize("name", ALL)
def test_sound_is_where_the_phonemes_are(name):
    clip = recording(name)
    hop = 80  # 5 ms
    speaking = np.zeros(len(clip.samples))
    for p in clip.phonemes:
        speaking[int(p.start * 16000) : int(p.end * 16000)] = 1.0
    speaking = speaking.reshape(-1, hop).mean(axis=1) > 0.5
    level = np.abs(clip.samples).reshape(-1, hop).mean(axis=1)
    assert speaking[level > 0.03].mean() > 0.98
    agreement = [np.mean(np.roll(speaking, shift) == (level > 0.01)) for shift in range(-20, 21)]
    assert abs(int(np.argmax(agreement)) - 20) <= 3  # 15 ms


def test_nobody_in_training_says_the_held_out_sentences():
    texts = {name: [clip.text for clip in sentence_clips(name)] for name in voices()}
    heldout = {recording("demo_heldout").text} | {clip.text for clip in sentence_clips("demo_unseen")}
    heldout |= {text for name, split in voices().items() if split == "val" for text in texts[name]}
    trained = {text for name, split in voices().items() if split != "val" for text in texts[name]}
    assert not heldout & trained


def test_excerpt_keeps_time():
    clip = recording("demo")
    cut = excerpt(clip, 2.0, 4.0)
    assert cut.n_frames == 50
    np.testing.assert_array_equal(cut.samples, clip.samples[32000:64000])
    original = [p for p in clip.phonemes if p.end > 2.0 and p.start < 4.0]
    assert [round(p.start + 2.0, 6) for p in cut.phonemes] == [round(p.start, 6) for p in original]


def test_an_unknown_voice_is_refused():
    with pytest.raises(InputError, match="nobody"):
        recording("nobody")
