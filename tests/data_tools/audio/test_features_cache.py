import numpy as np
import pytest

from data_tools.audio import sound
from data_tools.audio.sound import AudioFeatures


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Features that count how often they are computed, with a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GENEFACE_FEATURE_CACHE", raising=False)
    calls = []

    def compute(samples, n_frames):
        calls.append(n_frames)
        return np.full((2 * n_frames, 3), samples.sum(), np.float32), np.zeros(2 * n_frames, np.float32)

    return calls, lambda weights="": sound.cached(AudioFeatures("counted", compute, weights))


def test_the_same_sound_is_listened_to_once(counted):
    calls, audio = counted
    samples = np.arange(640, dtype=np.float32)
    first, again = audio().compute(samples, 1), audio().compute(samples.copy(), 1)
    assert calls == [1]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_sound_length_or_network_is_not_taken_for_it(counted):
    calls, audio = counted
    samples = np.arange(640, dtype=np.float32)
    audio().compute(samples, 1)
    audio().compute(samples + 1, 1)
    audio().compute(samples, 2)
    audio("0123456789abcdef").compute(samples, 1)
    assert calls == [1, 1, 2, 1]


def test_a_damaged_file_is_made_again_and_an_unwritable_home_is_no_error(counted, tmp_path, monkeypatch):
    calls, audio = counted
    samples = np.zeros(640, np.float32)
    audio().compute(samples, 1)
    (file,) = sound.cache_folder().glob("*.npz")
    file.write_bytes(b"half a fi")
    audio().compute(samples, 1)
    assert calls == [1, 1]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert audio().compute(samples, 1)[0].shape == (2, 3)


def test_it_can_be_switched_off_and_does_not_grow_for_ever(counted, monkeypatch):
    calls, audio = counted
    monkeypatch.setattr(sound, "MAX_BYTES", 1500)
    for value in range(5):
        audio().compute(np.full(640, value, np.float32), 1)
    assert 1 <= len(list(sound.cache_folder().glob("*.npz"))) < 5
    monkeypatch.setenv("GENEFACE_FEATURE_CACHE", "off")
    audio().compute(np.full(640, 4, np.float32), 1)
    assert len(calls) == 6
