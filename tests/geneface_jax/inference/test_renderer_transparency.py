"""The renderer's own alpha: over any background it gives what is rendered before that background, and files carry it."""

import subprocess

import cv2
import numpy as np
import pytest

from data_tools.audio.sound import load_audio, save_wav
from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable
from geneface_jax.data.subject import FeatureTypes
from geneface_jax.inference import person as pipeline
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.pictures import straight_rgba, without_background
from geneface_jax.inference.renderer import SubjectRenderer
from tests.tiny_person import write_person

FRAMES = 3


class StillSpeech(AudioToMotion):
    kind = FeatureTypes()
    follows_mouth_amp = False

    def __init__(self):
        pass

    def predict(self, audio_features, f0, **options):
        return np.zeros((len(f0) // 2, 204), np.float32)


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    folder = write_person(tmp_path_factory.mktemp("person"))
    (folder / "postnet" / "checkpoints").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def renderer(person):
    return SubjectRenderer.load(person)


def drive(renderer, frames=FRAMES):
    subject = renderer.subject
    return subject.motion[:frames], subject.cameras[:frames], subject.eye_openness[:frames]


def over(rgba, background):
    alpha = rgba[..., 3:] / 255.0
    return rgba[..., :3] * alpha + background * (1.0 - alpha)


def test_over_any_background_it_is_the_picture_before_that_background(renderer):
    rgba = np.stack(list(renderer.render(*drive(renderer), transparent=True)))
    assert rgba.shape == (FRAMES, 32, 32, 4) and rgba.dtype == np.uint8
    assert np.ptp(rgba[..., 3]) > 100 and len(np.unique(rgba[..., 3])) > 30
    for background in (renderer.subject.background, np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)):
        pictures = np.stack(list(renderer.render(*drive(renderer), background=background))).astype(float)
        assert np.abs(over(rgba, background) - pictures)[rgba[..., 3] > 0].max() <= 4
        # Colours that transparent pixels carry for the codec's sake do not show.
        assert np.abs(over(rgba, background) - pictures).max() <= 4


def test_the_torso_is_part_of_it(renderer, person):
    alone = SubjectRenderer.load(person, torso=False)
    with_torso, without = (np.stack(list(r.render(*drive(r), transparent=True)))[..., 3].astype(int) for r in (renderer, alone))
    assert (with_torso >= without - 1).all() and (with_torso > without + 50).any()


def test_opaque_colors_stay_and_edges_are_divided_by_their_opacity():
    rng = np.random.default_rng(1)
    alpha = np.clip(rng.uniform(-0.5, 1.5, (24, 24)), 0, 1)
    color = rng.uniform(0.2, 1.0, (24, 24, 3)) * alpha[..., None]
    rgba = straight_rgba(color, alpha, 24)
    np.testing.assert_allclose(rgba[..., 3], alpha * 255, atol=0.51)
    np.testing.assert_allclose(rgba[alpha == 1][:, :3], color[alpha == 1] * 255, atol=0.51)
    np.testing.assert_allclose(over(rgba, 0.0), color * 255, atol=14)
    assert straight_rgba(color, alpha, 12).shape == (12, 12, 4)


def test_a_background_is_taken_away_as_it_was_put_there():
    rng = np.random.default_rng(2)
    alpha = rng.uniform(size=(8, 8))
    color, background = rng.uniform(size=(8, 8, 3)) * alpha[..., None], rng.uniform(size=(8, 8, 3))
    np.testing.assert_allclose(without_background(color + (1 - alpha[..., None]) * background, alpha, background), color, atol=1e-9)


@pytest.fixture
def infer(person, tmp_path, monkeypatch):
    """`infer` of a second of noise, with a mouth that rests."""
    monkeypatch.setattr(pipeline, "open_speech", lambda *_: StillSpeech())
    save_wav(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32))

    def run(out, **controls):
        return pipeline.infer(person, tmp_path / "a.wav", out, Controls(bg="transparent", close_mouth=0.0, **controls)).path

    return run


def decoded_rgba(path, size=32):
    # ffmpeg's own VP9 decoder leaves the alpha channel out.
    command = [ffmpeg_executable(), "-v", "error", "-c:v", "libvpx-vp9", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgba", "pipe:1"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, size, size, 4)


def test_infer_writes_the_alpha_to_webm_and_to_pictures(infer, tmp_path):
    folder = infer(tmp_path / "frames")
    assert sorted(p.name for p in folder.iterdir()) == [*(f"{i:06d}.png" for i in range(25)), "audio.wav"]
    pictures = np.stack([cv2.imread(str(folder / f"{i:06d}.png"), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]] for i in range(25)])
    assert np.ptp(pictures[0, ..., 3]) > 100
    film = decoded_rgba(infer(tmp_path / "film.webm", crf=4))
    assert film.shape == pictures.shape
    assert np.abs(film[..., 3].astype(int) - pictures[..., 3]).mean() < 3
    opaque = pictures[..., 3] > 120
    assert np.abs(film[..., :3].astype(int) - pictures[..., :3])[opaque].mean() < 12
    for path in (folder / "audio.wav", tmp_path / "film.webm"):
        assert len(load_audio(path)) == pytest.approx(16000, abs=400)


@pytest.mark.parametrize(
    ("name", "controls", "words"),
    [
        ("a.mp4", {}, r"can't hold the alpha channel of --bg transparent.*\.webm"),
        ("a.webm", {"pix_fmt": "yuv444p"}, "--pix-fmt yuv444p has no alpha"),
        ("a.webm", {"maxrate": "1M", "bufsize": "2M"}, "--maxrate 1M is for H.264"),
        ("a", {"bitrate": "1M"}, "--bitrate 1M does not apply to PNGs"),
    ],
)
def test_outputs_that_cannot_hold_it_are_refused_before_any_work(infer, tmp_path, name, controls, words):
    with pytest.raises(InputError, match=words):
        infer(tmp_path / name, **controls)
    assert not (tmp_path / name).exists()
