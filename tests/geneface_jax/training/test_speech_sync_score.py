"""The score that `prepare-corpus --syncnet` filters by, with the shipped SyncNet on the avatar's held-out voices."""

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.data.corpus import Corpus
from geneface_jax.data.subject import FeatureTypes
from geneface_jax.io.configs import shipped
from geneface_jax.training.speech_losses import sync_scorer

SHIPPED = shipped("checkpoints") / "avatar"


@pytest.fixture(scope="module")
def judge():
    if not (SHIPPED / "syncnet").is_dir():
        pytest.skip("no shipped SyncNet in checkpoints/avatar")
    return sync_scorer(SHIPPED / "syncnet", FeatureTypes(audio_model="whisper"))


def arrays_of(clip, late: int = 0) -> dict[str, np.ndarray]:
    """The clip's arrays with its sound `late` frames late."""
    n = clip.n_frames - late
    return {"audio_features": clip.audio_features[: 2 * n], "f0": clip.f0[: 2 * n], "motion": clip.motion[late:]}


def test_sound_in_place_scores_above_sound_out_of_place(judge):
    clips = [clip for clip in Corpus.load(SHIPPED / "corpus").of_split("val") if clip.n_frames > 80][:6]
    in_place, moved = (np.array([judge[1](arrays_of(clip, late)) for clip in clips]) for late in (0, 12))
    assert np.all(in_place > 0.1) and np.all(in_place > moved) and in_place.mean() > moved.mean() + 0.15


def test_too_short_a_clip_has_no_score(judge):
    clip = Corpus.load(SHIPPED / "corpus").of_split("val")[0]
    assert judge[1]({name: array[: 40 * len(array) // clip.n_frames] for name, array in arrays_of(clip).items()}) is None


def test_the_judge_is_named_by_place_and_step(judge):
    assert "syncnet" in judge[0] and "step" in judge[0]


def test_a_syncnet_of_other_features_is_refused(judge):
    with pytest.raises(InputError, match="whisper .*hubert"):
        sync_scorer(SHIPPED / "syncnet", FeatureTypes(audio_model="hubert"))
