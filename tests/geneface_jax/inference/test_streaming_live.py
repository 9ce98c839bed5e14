"""Live speech: the result does not depend on the chunks, and latency and look-ahead are as documented."""

import dataclasses

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.streaming import BLOCK, delay_frames, look_ahead, stream_live
from tests.tiny_speech import StubRenderer, tiny_person, voice_with_pauses

SECONDS = 12.0


class MotionRenderer(StubRenderer):
    """Pixel values from the mouth's mean over a window as large as a real renderer's, the camera and the eyes."""

    def render(self, motion, cameras, eye_openness, *, background=None, torso_cameras=None, end_threshold=None, rays="trained"):
        padded = np.pad(motion[:, 48:].mean((1, 2)), 2, mode="edge")
        for i in range(len(motion)):
            frame = np.zeros((32, 32, 3), np.uint8)
            values = padded[i : i + 5].mean(), cameras[i, 0, 3], eye_openness[i]
            # The last decimals, so that nothing small is missed.
            frame[:] = (1e5 * np.array(values)).astype(int) % 256
            yield frame


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    return tiny_person(tmp_path_factory.mktemp("person"), MotionRenderer)


@pytest.fixture(scope="module")
def sound():
    return voice_with_pauses(SECONDS)


def spoken(person, pieces, **changes):
    pictures = [(picture[0, 0], heard) for picture, heard in stream_live(person, pieces, Controls(**changes))]
    return np.array([picture for picture, _ in pictures]).astype(int), np.concatenate([heard for _, heard in pictures])


def cut(sound, lengths):
    pieces, start = [], 0
    while start < len(sound):
        pieces.append(sound[start : start + lengths[len(pieces) % len(lengths)]])
        start += len(pieces[-1])
    return pieces


@pytest.mark.parametrize("controls", [{}, {"blink_mode": "period", "blink_period": 30, "smooth": 0.6, "temperature": 1.0}])
def test_pieces_give_what_the_whole_gives(person, sound, controls):
    whole, heard = spoken(person, [sound], **controls)
    assert len(whole) == 300 and np.ptp(whole[:, 0]) > 3 and np.array_equal(heard[: len(sound)], sound)
    for lengths in ((1000,), (37, 20000, 5), (16000,)):
        pieces, again = spoken(person, cut(sound, lengths), **controls)
        assert np.array_equal(pieces, whole) and np.array_equal(again, heard)


def test_a_recording_shorter_than_a_block_and_one_that_ends_within_a_frame(person, sound):
    for n in (700, 16000 * 2 + 13, 640 * BLOCK * 3):
        pictures, heard = spoken(person, [sound[:n]])
        assert len(pictures) == -(-n // 640) and np.array_equal(heard[:n], sound[:n]) and not heard[n:].any()


def test_pictures_come_as_early_as_promised_and_no_earlier(person, sound):
    wanted = delay_frames(person.speech) * 640
    given = []

    def pieces():
        for start in range(0, len(sound), 640):
            given.append(start + 640)
            yield sound[start : start + 640]

    next(stream_live(person, pieces(), Controls()))
    assert given[-1] == wanted


def test_the_networks_look_no_further_ahead_than_it_says(person, sound):
    features = np.random.default_rng(0).normal(size=(400, 80)).astype(np.float32) - 2.0
    f0 = np.full(400, 120.0, np.float32)
    changed = f0.copy()
    at = 150
    changed[2 * at] = 0.0
    first, second = (person.speech.predict(features, pitch, temperature=0.0) for pitch in (f0, changed))
    touched = np.flatnonzero(np.abs(first - second).max(1) > 0)
    reach = at - touched[0]
    # Untrained networks pass on little at the ends of their windows, so what is seen is less than the bound.
    assert look_ahead(person.speech) // 2 <= reach <= look_ahead(person.speech)


def test_what_needs_the_whole_recording_is_refused(person, sound):
    for controls, words in (({"orbit": 5.0}, "--orbit"), ({"bg": "transparent"}, "transparent")):
        with pytest.raises(InputError, match=words):
            next(stream_live(person, [sound], Controls(**controls)))
    hubert = dataclasses.replace(person.subject, audio_model="hubert")
    with pytest.raises(InputError, match="mel_f0"):
        next(stream_live(dataclasses.replace(person, subject=hubert), [sound], Controls()))
    with pytest.raises(InputError, match="no sound"):
        next(stream_live(person, [], Controls()))


# -------- Whisper features: encoded on a fixed grid, with a longer wait


@pytest.fixture
def listener(person, monkeypatch):
    """A person with Whisper features whose networks keep what they are given, by audio frame, and hold still."""
    given = {}

    def predict(self, features, f0, *, start=0, **_):
        assert len(features) == len(f0)
        for number, frame in enumerate(features, start=2 * start):
            given.setdefault(number, []).append(frame)
        return np.zeros((len(features) // 2, 204), np.float32)

    monkeypatch.setattr(AudioToMotion, "predict", predict)
    subject = dataclasses.replace(person.subject, audio_model="whisper", meta={**person.subject.meta, "audio_model": "whisper"})
    return dataclasses.replace(person, subject=subject), given


@pytest.mark.parametrize("lengths", [(16000 * 9,), (37, 20000, 5)])
def test_a_stream_hears_the_features_of_the_whole(listener, sound, lengths):
    whispering, given = listener
    sound = sound[: 16000 * 6 - 250]
    spoken(whispering, cut(sound, lengths))
    wanted, _ = audio_features("whisper").compute(sound, 150)
    assert sorted(given) == list(range(300)) and max(map(len, given.values())) > 3
    for number, frames in given.items():
        for frame in frames:
            np.testing.assert_allclose(frame, wanted[number], atol=1e-6)


def test_pictures_of_whisper_come_as_early_as_promised(listener, sound):
    whispering, _ = listener
    features = audio_features("whisper")
    wanted = delay_frames(whispering.speech, features)
    assert 0 < wanted - delay_frames(whispering.speech) < features.windows.frames + features.windows.future
    given = []

    def pieces():
        for start in range(0, len(sound), 640):
            given.append(start + 640)
            yield sound[start : start + 640]

    stream = stream_live(whispering, pieces(), Controls())
    next(stream)
    assert given[-1] == wanted * 640
    for _ in range(BLOCK):
        next(stream)
    assert given[-1] == (wanted + BLOCK) * 640
