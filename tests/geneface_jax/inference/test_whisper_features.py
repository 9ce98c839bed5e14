"""Whisper features: aligned with `mel_f0`, independent of what comes later, made of shipped weights."""

import shutil

import numpy as np
import pytest

from data_tools.audio.sound import N_MELS, features_for_frames
from data_tools.avatar.speakers import recording
from data_tools.errors import InputError
from geneface_jax.inference.audio_features import audio_features, audio_features_of
from geneface_jax.inference.whisper_features import ENCODER, FUTURE, PAST, PROJECTION, WINDOW, Encoder, read_projection, whisper_folder
from scripts.whisper_weights import check

T = 75


@pytest.fixture(scope="module")
def speech():
    return recording("demo_heldout").samples[: T * 640]


@pytest.fixture(scope="module")
def whisper():
    return audio_features("whisper")


def test_features_of_every_frame_with_f0(whisper, speech):
    features, f0 = whisper.compute(speech, T)
    assert len(features) == 2 * T and features.dtype == np.float32 and np.isfinite(features).all()
    assert N_MELS < features.shape[1] <= 160  # a network tells them from `mel_f0` by their number; more can be turned back into sound
    np.testing.assert_array_equal(f0, features_for_frames(speech, T)[1])
    assert 0.5 < features.std() < 2.0
    np.testing.assert_array_equal(whisper.compute(speech, T)[0], features)
    assert whisper.name == "whisper" and whisper.recipe == f"whisper:{whisper.weights}" and len(whisper.weights) == 16
    assert whisper.compute(speech[:0], 0)[0].shape[0] == 0
    # Sound is cut, or continued with silence, to the video's frames.
    np.testing.assert_array_equal(whisper.compute(np.pad(speech, (0, 3000)), T)[0], features)
    assert whisper.compute(speech, T + 2)[0].shape[0] == 2 * T + 4


def test_what_comes_later_changes_nothing(whisper, speech):
    """The last windows hear what follows them; minutes of loud sound change nothing before."""
    noise = np.random.default_rng(0).uniform(-1.0, 1.0, 30 * 16000).astype(np.float32)
    alone, followed = whisper.compute(speech, T)[0], whisper.compute(np.concatenate([speech, noise]), T + 30 * 25)[0]
    certain = (2 * T - FUTURE - 1) // WINDOW * WINDOW
    np.testing.assert_array_equal(followed[:certain], alone[:certain])
    assert np.abs(followed[certain : 2 * T] - alone[certain:]).max() > 0.1


def test_a_piece_on_the_grid_has_the_features_of_the_whole(whisper, speech):
    grid, whole = whisper.windows, whisper.compute(speech, T)[0]
    assert (2 * grid.frames, 2 * grid.past) == (WINDOW, PAST) and 2 * grid.future > FUTURE
    first, last = grid.frames, T
    piece = whisper.compute(speech[first * 640 :], last - first)[0]
    kept = slice(2 * (first + grid.past), 2 * (last - grid.future))
    assert kept.stop - kept.start >= WINDOW // 2
    np.testing.assert_array_equal(piece[2 * grid.past : kept.stop - 2 * first], whole[kept])


def lag(features, mel):
    """Audio frames by which the features that tell most of `mel` lie after it, from a parabola through three explained variances."""
    wanted, explained = mel[10:-10], []
    for shift in (-1, 0, 1):
        given = np.pad(features[10 + shift : len(features) - 10 + shift], ((0, 0), (0, 1)), constant_values=1.0)
        missed = wanted - given @ np.linalg.lstsq(given, wanted, rcond=None)[0]
        explained.append(1.0 - np.square(missed).sum() / np.square(wanted - wanted.mean(axis=0)).sum())
    before, middle, after = explained
    assert middle > 0.7
    return 0.5 * (before - after) / (before - 2.0 * middle + after)


def test_states_lie_where_the_frames_of_mel_f0_lie():
    """Whisper's own states are centered half a hop before: with sound half a hop later or earlier, the states tell most of a neighbor."""
    sound = recording("demo_unseen").samples[: 12 * 16000]
    mel = features_for_frames(sound, 300)[0]
    encoder, lags = Encoder(whisper_folder()), []
    for shift in (-160, 0, 160):
        states = encoder.states(np.roll(sound, shift)).reshape(-1, WINDOW, 384)
        states = (states - states.mean(axis=0)).reshape(-1, 384)
        lags.append(lag(states @ np.linalg.svd(states, full_matrices=False)[2][:60].T, mel))
    early, right, late = lags
    assert abs(right) < 0.2 and early < right - 0.3 and late > right + 0.3, (early, right, late)


def test_missing_damaged_and_foreign_weights_give_a_sentence(tmp_path):
    shutil.copytree(whisper_folder(), tmp_path / "whisper")
    check(tmp_path / "whisper")
    path = tmp_path / "whisper" / ENCODER
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"encoder\.npz is damaged .*git checkout"):
        Encoder(tmp_path / "whisper")
    with pytest.raises(InputError, match="is not what this script makes"):
        check(tmp_path / "whisper")
    shutil.copy(tmp_path / "whisper" / PROJECTION, path)
    with pytest.raises(InputError, match="does not hold the weights"):
        Encoder(tmp_path / "whisper")
    path.unlink()
    with pytest.raises(InputError, match=r"encoder\.npz is missing"):
        Encoder(tmp_path / "whisper")
    np.savez(tmp_path / "other.npz", mean=np.zeros((2, 3)), matrix=np.zeros((3, 2)))
    with pytest.raises(InputError, match="does not hold the projection"):
        read_projection(tmp_path / "other.npz")


def test_a_dataset_of_other_weights_is_refused(whisper):
    meta = {"audio_model": "whisper", "audio_weights": whisper.weights}
    assert audio_features_of(meta, "the dataset D") is whisper
    with pytest.raises(
        InputError, match=r"whisper features of the dataset D were made by the network 0123456789abcdef, .*--features whisper"
    ):
        audio_features_of({**meta, "audio_weights": "0123456789abcdef"}, "the dataset D")
