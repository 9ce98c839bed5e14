"""Shut lips, closures of p, b and m, and the offset of a clip by a SyncNet."""

import json

import numpy as np
import pytest

from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import sentence_clips
from data_tools.errors import InputError
from data_tools.landmarks68 import landmarks_from_motion
from geneface_jax.data.motion import mouth_opening
from geneface_jax.evaluation.lips import Phone, closing_phones, closure, phones_beside, read_words, shut_share
from geneface_jax.models.syncnet import SyncNet
from geneface_jax.training.speech_losses import SyncExpert, sync_offset


def test_a_closure_needs_shut_lips_within_a_frame_of_the_phone():
    opening = np.full(50, 0.2)
    opening[[10, 30]] = 0.01
    phones = [Phone(0.40, 0.44, "p"), Phone(0.80, 0.84, "b"), Phone(1.24, 1.28, "m"), Phone(0.8, 0.9, "t")]
    assert closure(opening, phones) == (pytest.approx(2 / 3), 3), "the m is shut in the frame before it"
    assert closure(opening + 0.1, phones).share == 0.0
    assert np.isnan(closure(opening, [Phone(0.4, 0.44, "t")]).share)
    assert closure(opening, [Phone(2.4, 2.5, "p")]).phones == 0, "outside of the recording"
    assert shut_share(opening) == pytest.approx(2 / 50)


def test_the_avatars_lips_shut_for_every_p_b_and_m_and_not_for_others():
    shares = []
    for late in (0.0, 0.3):
        found = []
        for clip in sentence_clips("anna")[:4]:
            opening = mouth_opening(landmarks_from_motion(perform(clip).motion.reshape(-1, 204)))
            found.append(closure(opening, [Phone(p.start + late, p.end + late, p.ipa) for p in clip.phonemes]))
        shares.append(sum(each.share * each.phones for each in found) / sum(each.phones for each in found))
    assert shares[0] == 1.0 and shares[1] < 0.6


def test_words_of_grid_give_the_closures_at_their_ends(tmp_path):
    path = tmp_path / "bbim4p.align"
    path.write_text("0 12500 sil\n12500 20000 bin\n20000 25000 blue\n25000 27500 in\n27500 32500 m\n32500 50000 please\n")
    words = read_words(path)
    assert words[1] == Phone(0.5, 0.8, "bin")
    found = closing_phones(words)
    assert [phone.name for phone in found] == ["b", "b", "m", "p"]
    assert found[0].start < 0.5 < found[0].end < 0.8, "a stop is shut before its word is heard"
    assert 1.1 < found[2].start < found[2].end == pytest.approx(1.3), "the letter m ends with its closure"
    path.write_text("0 12500\n")
    with pytest.raises(InputError, match='not "start end word": copy'):
        read_words(path)


def test_phones_are_found_beside_a_clip(tmp_path):
    assert phones_beside(tmp_path / "video.mp4") is None
    (tmp_path / "phonemes.json").write_text(json.dumps([[0.1, 0.2, "pʰ"], [0.2, 0.3, "ˈɑː"]]))
    assert phones_beside(tmp_path / "video.mp4") == [Phone(0.1, 0.2, "p"), Phone(0.2, 0.3, "ɑ")]
    (tmp_path / "video.align").write_text("0 25000 by\n")
    assert [phone.name for phone in phones_beside(tmp_path / "video.mp4")] == ["b"]
    (tmp_path / "phonemes.json").write_text("[1]")
    with pytest.raises(InputError, match="not a list of"):
        phones_beside(tmp_path / "other.mp4")


@pytest.mark.parametrize("late", [-4.0, 0.0, 2.5])
def test_the_offset_of_a_clip_is_where_a_syncnet_scores_it_best(late):
    rng = np.random.default_rng(0)
    frames = np.arange(160.0)
    curve = np.stack([np.convolve(rng.normal(size=166), np.hanning(7), "valid") for _ in range(8)], axis=1)

    def unit(vectors):
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    mouth = np.stack([np.interp(frames - late, frames, column) for column in curve.T], axis=1)

    class Expert(SyncExpert):
        def embed(self, audio, motion):
            return unit(curve), unit(mouth)

    expert = Expert(SyncNet(8), {}, np.ones(204, np.float32), "speaker")
    features, f0 = np.zeros((328, 160), np.float32), np.zeros(328, np.float32)
    found = sync_offset(expert, features, f0, np.zeros((164, 204), np.float32))
    assert found.lag == pytest.approx(late, abs=0.25) and found.margin > 0.2
