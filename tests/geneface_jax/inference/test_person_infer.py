"""From audio to mp4 with stand-ins for the networks: lengths, controls that act, and sentences for what is missing."""

import dataclasses
import shutil
import time

import numpy as np
import pytest

from data_tools.audio.sound import MEL_F0, load_audio, save_wav
from data_tools.errors import InputError
from data_tools.video import read_video
from geneface_jax.data.subject import FeatureTypes, Subject
from geneface_jax.inference import audio_features
from geneface_jax.inference import person as pipeline
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.person import infer
from geneface_jax.io.person_folder import find_parts
from tests.synthetic_subject import write_subject
from tests.tiny_speech import StubRenderer


class FakeSpeech(AudioToMotion):
    """Predicts noise scaled by the temperature."""

    kind = FeatureTypes()
    follows_mouth_amp = False
    mouth_amp = None

    def __init__(self):
        pass

    @classmethod
    def load(cls, folder, *, step=None):
        return cls()

    def predict(self, audio_features, f0, *, temperature, seed, mouth_amp):
        FakeSpeech.mouth_amp = mouth_amp
        assert audio_features.shape == (len(f0), 80) and len(f0) % 2 == 0
        noise = np.random.default_rng(seed).normal(size=(len(f0) // 2, 204))
        return (1.0 + temperature * noise).astype(np.float32)


class FakeRenderer(StubRenderer):
    """Encodes its inputs as colors over the background: camera in red, mouth in green, eyes in blue."""

    asked = None

    @classmethod
    def load(cls, folder):
        return cls(Subject.load(folder / "dataset"))

    def render(self, motion, cameras, eye_openness, *, background=None, torso_cameras, end_threshold, rays, size=None):
        type(self).asked = rays, size, None if background is None else background.shape
        assert motion.shape[1:] == (68, 3) and len(motion) == len(cameras) == len(eye_openness)
        assert np.isfinite(cameras).all() and torso_cameras.shape == cameras.shape
        behind = self.subject.background if background is None else background
        for i in range(len(motion)):
            frame = behind.copy()
            frame[8:24, 8:24, 0] = np.clip(128 + 3000 * cameras[i, 0, 3], 0, 255)
            frame[8:24, 8:24, 1] = np.clip(128 + 20 * motion[i, 48:].mean(), 0, 255)
            frame[8:24, 8:24, 2] = np.clip(500 * eye_openness[i], 0, 255)
            yield frame


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("person")
    write_subject(folder / "dataset", frames=44)
    with np.load(folder / "dataset" / "arrays.npz") as archive:
        arrays = dict(archive)
    arrays["eye_openness"] = (0.3 - 0.25 * (np.arange(44) % 11 == 5)).astype(np.float32)
    np.savez(folder / "dataset" / "arrays.npz", **arrays)
    for stage in ("postnet", "head", "torso"):
        (folder / stage / "checkpoints").mkdir(parents=True)
    return folder


@pytest.fixture
def person(template, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "AudioToMotion", FakeSpeech)
    monkeypatch.setattr(pipeline, "open_renderer", lambda parts, subject, precision="fp32": FakeRenderer.load(parts.folder))
    return shutil.copytree(template, tmp_path / "a person")


@pytest.fixture
def speech(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 16000 * 3 + 100)
    save_wav(tmp_path / "speech.wav", noise.astype(np.float32))
    return tmp_path / "speech.wav"


def test_the_video_is_as_long_as_the_audio_and_carries_it(person, speech, tmp_path):
    seen = []
    result = infer(person, speech, tmp_path / "out" / "a.mp4", progress=lambda done, total: seen.append((done, total)))
    assert result.frames == 76 and result.seconds == pytest.approx(3.04)  # 3.00625 s, rounded up to a frame; longer than the video
    assert seen == [(i, 76) for i in range(1, 77)]
    frames = list(read_video(result.path))
    assert len(frames) == 76 and frames[0].shape == (32, 32, 3)
    sound, original = load_audio(result.path), load_audio(speech)
    assert len(sound) / 16000 == pytest.approx(3.04, abs=0.002)
    assert np.corrcoef(sound[: len(original)], original)[0, 1] > 0.8


def test_the_speed_is_that_of_the_frames_after_the_first(person, speech, tmp_path, monkeypatch):
    def render(self, motion, *_, **__):
        time.sleep(0.5)  # compiling
        for _ in motion:
            yield np.zeros((32, 32, 3), np.uint8)
            time.sleep(0.01)

    monkeypatch.setattr(FakeRenderer, "render", render)
    assert 25 < infer(person, speech, tmp_path / "a.mp4").frames_per_second < 100
    one = np.full(6400, 0.1, np.float32)
    save_wav(tmp_path / "short.wav", one)
    monkeypatch.setattr(FakeRenderer, "render", lambda self, motion, *_, **__: iter([np.zeros((32, 32, 3), np.uint8)]))
    assert infer(person, tmp_path / "short.wav", tmp_path / "a.mp4").frames_per_second is None


@pytest.mark.parametrize("follows", [False, True])
def test_the_mouths_amplitude_acts_once(person, speech, tmp_path, monkeypatch, follows):
    """In the network that follows it, else in the landmarks; either way the network is told."""
    shaped = []

    def shape(motion, subject, controls, *rest):
        shaped.append(controls.mouth_amp)
        return np.zeros((len(motion), 68, 3), np.float32), np.full(len(motion), 0.3, np.float32)

    monkeypatch.setattr(FakeSpeech, "follows_mouth_amp", follows)
    monkeypatch.setattr(pipeline, "shape_motion", shape)
    infer(person, speech, tmp_path / "a.mp4", Controls(mouth_amp=0.7, crf=40))
    assert (FakeSpeech.mouth_amp, shaped) == (0.7, [0.4 if follows else 0.7])


def patch(frames):
    return np.stack([frame[10:22, 10:22].reshape(-1, 3).mean(0) for frame in frames])


def video(person, speech, tmp_path, **changes):
    out = tmp_path / "result.mp4"
    infer(person, speech, out, Controls(crf=4, **changes))
    return list(read_video(out))


def test_the_pose_controls_act(person, speech, tmp_path):
    moving, still = (patch(video(person, speech, tmp_path, pose=pose))[:, 0] for pose in ("video", "still"))
    assert np.ptp(moving) > 20 and np.ptp(still) < 6
    short = patch(video(person, speech, tmp_path, pose="10-14"))[:, 0]
    assert np.ptp(short) < np.ptp(moving) - 10


def test_the_blink_modes_act(person, speech, tmp_path):
    blue = {mode: patch(video(person, speech, tmp_path, blink_mode=mode))[:, 2] for mode in ("none", "video")}
    assert np.ptp(blue["none"]) < 8 and np.ptp(blue["video"]) > 60


def test_the_mouth_shuts_in_a_pause_of_the_sound(person, tmp_path, monkeypatch):
    """The renderer's green is the mouth's height; the person's shut mouth lies below the mouth that is predicted."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16000 * 3)
    noise[16000:32000] = 0.0
    save_wav(tmp_path / "pause.wav", noise.astype(np.float32))
    open_mouth, shut = (
        patch(video(person, tmp_path / "pause.wav", tmp_path, temperature=0.0, clamp=10.0, close_mouth=amount))[:, 1]
        for amount in (0.0, 1.0)
    )
    assert np.ptp(open_mouth) < 6
    assert abs(shut[32:44].mean() - open_mouth[32:44].mean()) > 6 and abs(shut[:20].mean() - open_mouth[:20].mean()) < 3


def test_background_and_size_act(person, speech, tmp_path):
    frames = video(person, speech, tmp_path, bg="#00ff00", size=64)
    assert frames[0].shape == (64, 64, 3)
    assert np.abs(frames[0][2, 2].astype(int) - [0, 255, 0]).max() < 12


@pytest.mark.parametrize(
    ("size", "trained", "rays", "head", "rendered"),
    [
        (None, 32, "full", "head", None),
        (64, 64, "full", "head", None),
        (64, 96, "trained", "head", 64),  # fewer rays, no averaging
        (64, 96, "adaptive", "head", 64),
        (96, 64, "trained", "head", None),  # enlarged
        (96, 64, "adaptive", "head", None),
        (96, 64, "full", "head", 96),
        (96, 64, "full", "head_sr", None),  # as trained, always
        (64, 96, "trained", "head_sr", None),
    ],
)
def test_the_size_that_is_rendered(person, size, trained, rays, head, rendered):
    if head != "head":
        for stage in (head, "torso_sr"):
            (person / stage / "checkpoints").mkdir(parents=True)
    shutil.rmtree(person / "dataset")
    write_subject(person / "dataset", frames=44, size=trained)
    opened = pipeline.open_person(find_parts(person))
    talk = opened.speak(np.full(6400, 0.1, np.float32), Controls(size=size, rays=rays, bg="#00ff00"))
    frame = next(iter(talk))
    assert frame.shape == (size or trained, size or trained, 3)
    side = rendered or trained
    assert FakeRenderer.asked == (rays, rendered, (side, side, 3))


def test_what_is_missing_is_named_with_the_command_that_makes_it(person, speech, tmp_path):
    out = tmp_path / "a.mp4"
    with pytest.raises(InputError, match="no subject folder"):
        infer(tmp_path / "nobody", speech, out)
    for part, words in (
        ("torso", "no trained torso/"),
        ("head", "no trained head/"),
        ("postnet", "no trained postnet/"),
        ("dataset", "prepare"),
    ):
        shutil.rmtree(person / part)
        with pytest.raises(InputError, match=words):
            infer(person, speech, out)
    assert not out.exists()


def test_bad_audio_is_refused(person, tmp_path):
    out = tmp_path / "a.mp4"
    rng = np.random.default_rng(0)
    for name, samples, words in (
        ("short", rng.normal(0, 0.1, 2000), "0.12 s"),
        ("silent", np.zeros(16000), "silent"),
        ("empty", np.zeros(0), "empty"),
    ):
        save_wav(tmp_path / f"{name}.wav", samples.astype(np.float32))
        with pytest.raises(InputError, match=words):
            infer(person, tmp_path / f"{name}.wav", out)
    with pytest.raises(InputError):
        infer(person, tmp_path / "none.wav", out)
    assert not out.exists()


def test_bad_controls_and_names_are_refused_before_any_work(person, speech, tmp_path):
    with pytest.raises(InputError, match="--lle is 2.0"):
        infer(person, speech, tmp_path / "a.mp4", Controls(lle=2.0))
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        infer(person, speech, tmp_path / "a.mov")
    with pytest.raises(InputError, match="44 frames"):
        infer(person, speech, tmp_path / "a.mp4", Controls(pose="0-45"))


def test_audio_may_come_from_a_video(person, speech, tmp_path):
    source = infer(person, speech, tmp_path / "first.mp4").path
    again = infer(person, source, tmp_path / "second.mp4")
    assert again.frames == 76


@pytest.mark.parametrize("kind", ["mel_f0", "hubert", "whisper"])
def test_a_person_hears_the_features_that_its_networks_know_without_a_flag(person, speech, tmp_path, monkeypatch, kind):
    asked = []
    monkeypatch.setattr(audio_features, "audio_features", lambda name: asked.append(name) or dataclasses.replace(MEL_F0, name=name))
    monkeypatch.setattr(FakeSpeech, "kind", FeatureTypes(audio_model=kind))
    meta = person / "dataset" / "meta.json"
    meta.write_text(meta.read_text().replace('"mel_f0"', f'"{kind}"'))
    assert infer(person, speech, tmp_path / "out.mp4").frames == 76 and asked == [kind]


def test_networks_of_other_audio_features_than_the_datasets_are_refused(person, speech, tmp_path):
    meta = person / "dataset" / "meta.json"
    meta.write_text(meta.read_text().replace('"mel_f0"', '"hubert"'))
    with pytest.raises(InputError, match="postnet of .*mel_f0.* dataset has .*hubert"):
        infer(person, speech, tmp_path / "out.mp4")
