"""Live speech: the same frames however the sound is cut, decided in time, and nothing of the future in them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.avatar.speakers import recording
from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import SubjectParts
from geneface_jax.live import speech as speech_module
from geneface_jax.live.features import live_encoder
from geneface_jax.live.speech import STAGE, LiveNetwork, LiveSpeech, open_live_speech, predict
from geneface_jax.models.live_motion import LiveMotion

N = 50 * 640 + 200
FRAMES = 51


def save_network(folder, **changes):
    """Saves an untrained network as a training would; returns its folder."""
    config = configs.load("audio2motion_live:demo", ["model.condition=8", "model.hidden=8", "model.layers=2"])
    config.model.update({name: value for name, value in changes.items() if name in config.model})
    with config.unlocked():
        config.data.update({"face_model": "mediapipe", "audio_model": changes.get("audio_model", "whisper_live"), "fingerprint": "theirs"})
    channels = live_encoder()["matrix"].shape[1]
    variables = jax.jit(LiveMotion(**config.model.to_dict()).init)(jax.random.key(0), jnp.zeros((1, 8, channels)))
    constants = {"motion_mean": np.linspace(0, 1, 204, dtype=np.float32), "motion_std": np.full(204, 2.0, np.float32)}
    checkpoints.save(folder, 1, {**variables, "constants": constants}, {"config": config})
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return LiveNetwork.load(save_network(tmp_path_factory.mktemp("live")))


@pytest.fixture(scope="module")
def samples():
    return recording("demo_heldout").samples[8000:][:N]


@pytest.fixture(scope="module")
def whole(network, samples):
    return predict(network, samples)


def cut(samples, sizes):
    """The samples in pieces of these sizes, over and over."""
    start, i = 0, 0
    while start < len(samples):
        yield samples[start : start + sizes[i % len(sizes)]]
        start, i = start + sizes[i % len(sizes)], i + 1


@pytest.mark.parametrize("sizes", [(160,), (640, 1, 4000), (1920,), (30000, 7)])
def test_frames_do_not_depend_on_how_the_sound_was_cut(network, samples, whole, sizes):
    speech = LiveSpeech(network)
    found = [speech.push(piece) for piece in cut(samples, sizes)]
    assert all(len(part) % LiveSpeech.BLOCK == 0 for part in found)
    np.testing.assert_array_equal(np.concatenate([*found, speech.flush()]), whole)
    assert whole.shape == (FRAMES, 68, 3) and whole.dtype == np.float32 and np.isfinite(whole).all() and whole.std(axis=0).max() > 0


def test_every_frame_is_decided_within_the_delay_and_hears_nothing_later(network, samples, whole):
    delay = round(LiveSpeech.DELAY * 16000)
    assert LiveSpeech.DELAY <= 0.32
    speech, decided = LiveSpeech(network), 0
    for heard in range(160, N + 1, 160):
        decided += len(speech.push(samples[heard - 160 : heard]))
        # Frames whose first sample came at least `delay` ago.
        assert decided >= (heard - delay) // 640 + 1, heard
    for frame in (0, 20, 31):
        changed = samples.copy()
        changed[640 * frame + delay :] = 0.2
        other = predict(network, changed)
        np.testing.assert_array_equal(other[: frame + 1], whole[: frame + 1])
        assert np.abs(other - whole).max() > 1e-3


def test_an_impulse_shows_within_the_delay(network):
    """The earliest frame that an impulse changes is decided at most `DELAY` after it."""
    delay = LiveSpeech.DELAY * 16000
    for at in (9000, 10000, 11111):
        silent, impulse = np.zeros(32000, np.float32), np.zeros(32000, np.float32)
        impulse[at : at + 40] = 0.9
        with_impulse, without = LiveSpeech(network), LiveSpeech(network)
        for heard in range(100, 32001, 100):
            piece = slice(heard - 100, heard)
            one, other = with_impulse.push(impulse[piece]), without.push(silent[piece])
            if not np.array_equal(one, other):
                break
        assert at < heard <= at + delay + 100, (at, heard)


def test_utterances_begin_anew_and_nothing_is_compiled_again(network, samples, whole):
    speech = LiveSpeech(network)
    programs = speech_module._step._cache_size()
    for piece in cut(samples[:9999], (333,)):
        speech.push(piece)
    assert len(speech.flush()) == 16 - 9  # of 9999 samples; three blocks were decided
    assert len(speech.flush()) == 0
    np.testing.assert_array_equal(np.concatenate([speech.push(samples), speech.flush()]), whole)
    other = LiveSpeech(network)
    np.testing.assert_array_equal(np.concatenate([other.push(samples[:1]), other.flush()]).shape, (1, 68, 3))
    assert speech_module._step._cache_size() == programs


def test_speech_follows_silence(network):
    """The first frames are those of a network that heard silence, not of one that heard nothing; features differ within a block."""
    blocks = predict(network, np.zeros(640 * 30, np.float32)).reshape(10, LiveSpeech.BLOCK, 68, 3)
    np.testing.assert_allclose(blocks, np.broadcast_to(blocks[:1], blocks.shape), atol=1e-4)


def test_networks_that_do_not_fit_are_refused(tmp_path):
    folder = tmp_path / "person"
    subject = SimpleNamespace(folder=folder, fingerprint="ours")
    person = SimpleNamespace(parts=SubjectParts(folder, "head", None, "postnet"), subject=subject)
    with pytest.raises(InputError, match="no live network"):
        open_live_speech(person)
    save_network(folder / STAGE)
    with pytest.raises(InputError, match="another dataset"):
        open_live_speech(person)
    subject.fingerprint = "theirs"
    assert open_live_speech(person)().push(np.zeros(10, np.float32)).shape == (0, 68, 3)
    with pytest.raises(InputError, match="train it again"):
        LiveNetwork.load(save_network(tmp_path / "late", delay=4))
    with pytest.raises(InputError, match="mel_f0"):
        LiveNetwork.load(save_network(tmp_path / "mel", audio_model="mel_f0"))
    other = tmp_path / "other"
    config = configs.load("syncnet:demo")
    checkpoints.save(other, 1, {"params": {"a": np.zeros(1, np.float32)}}, {"config": config})
    with pytest.raises(InputError, match=f"not {STAGE}"):
        LiveNetwork.load(other)
