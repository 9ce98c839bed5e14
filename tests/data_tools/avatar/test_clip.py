"""Clips and corpus on disk: complete, true, the same every time; and MediaPipe sees a face where the truth says it is."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import cv2
import numpy as np
import pytest

from data_tools.audio.sound import features_for_frames, load_audio
from data_tools.avatar import __main__ as tool
from data_tools.avatar.clip import make_corpus, render_clip, truth_arrays
from data_tools.avatar.performance import Performance, perform
from data_tools.avatar.render import Renderer
from data_tools.avatar.speakers import PARAMETERS, recording, sentence_clips, voices
from data_tools.command_line import run_command
from data_tools.errors import InputError
from data_tools.face.track import FACE_LANDMARKER
from data_tools.ffmpeg import ffmpeg_executable

SIZE, SECONDS = 256, 1.2


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return render_clip(tmp_path_factory.mktemp("avatar") / "held out", part="heldout", size=SIZE, seconds=SECONDS)


@pytest.fixture(scope="module")
def frames(clip):
    command = [ffmpeg_executable(), "-v", "error", "-i", str(clip / "video.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, SIZE, SIZE, 3)


def test_the_folder_is_complete(clip, frames):
    assert sorted(file.name for file in clip.iterdir()) == [
        "audio.wav", "background.png", "head", "phonemes.json", "truth.npz", "video.mp4"
    ]  # fmt: skip
    with np.load(clip / "truth.npz", allow_pickle=False) as truth:
        assert {"motion", "landmarks_2d", "cameras", "eye_openness", "mouth_opening"} <= set(truth.files)
        assert all(truth[name].dtype == np.float32 for name in truth.files)
        assert truth["motion"].shape == (30, 68, 3)
    assert len(frames) == len(list((clip / "head").iterdir())) == 30
    assert abs(len(load_audio(clip / "video.mp4")) / 16000 - SECONDS) < 0.1
    assert all(0 <= start < end and ipa for start, end, ipa in json.loads((clip / "phonemes.json").read_text()))


def test_the_mask_is_the_head_and_the_rest_stays(clip, frames):
    background = cv2.imread(str(clip / "background.png"))[..., ::-1].astype(float)
    with np.load(clip / "truth.npz") as truth:
        mesh = truth["mesh_2d"]
    for t in (0, 15, 29):
        mask = cv2.imread(str(clip / "head" / f"{t:06d}.png"), cv2.IMREAD_GRAYSCALE)
        inside = mesh[t].astype(int)
        assert np.mean(mask[inside[:, 1], inside[:, 0]] > 128) > 0.97
        rows = np.flatnonzero(mask.max(axis=1) > 128)
        assert mask[0].max() == mask[:, 0].max() == mask[:, -1].max() == 0
        assert rows[0] > 0.03 * SIZE
        top = slice(0, SIZE // 2)
        empty = cv2.dilate(mask, np.ones((5, 5)))[top] == 0
        assert np.abs(frames[t][top].astype(float) - background[top])[empty].mean() < 3.0
        assert np.abs(frames[t].astype(float) - background)[mask > 200].mean() > 20.0


def stills(performance: Performance, frames: list[int]) -> Performance:
    """The performance cut down to some of its frames."""
    motion = performance.head_motion
    cut = {field.name: getattr(motion, field.name)[frames] for field in dataclasses.fields(motion)}
    return dataclasses.replace(
        performance, mouth=performance.mouth[frames], vertices=performance.vertices[frames], head_motion=type(motion)(**cut)
    )


def test_rendering_is_deterministic():
    performance = stills(perform(recording("demo")), [10, 40, 41])
    first, again = ([image for image, _ in Renderer(performance.speaker, 128).frames(performance)] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0].astype(int) - first[1]).max() > 30


@pytest.mark.parametrize("speaker", ["demo", "hao"])
def test_the_dark_of_the_mouth_is_seen_only_when_it_is_open(speaker):
    size = 256
    performance = perform(recording(speaker))
    frames = [int(performance.mouth[:, PARAMETERS.index("close")].argmax()), int(performance.mouth[:, PARAMETERS.index("jaw")].argmax())]
    performance = stills(performance, frames)
    landmarks = truth_arrays(performance, size)["landmarks_2d"]
    darkest = []
    for (image, _), points in zip(Renderer(performance.speaker, size).frames(performance), landmarks, strict=True):
        x, y = points[[62, 66]].mean(axis=0)  # between the inner lips
        darkest.append(image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].sum(axis=-1).min())
    assert darkest[1] < 0.7 * darkest[0]


def test_mediapipe_finds_the_face_where_it_is(clip, frames):
    try:
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        model = str(FACE_LANDMARKER)
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=model), running_mode=vision.RunningMode.VIDEO, num_faces=1
        )
        landmarker = vision.FaceLandmarker.create_from_options(options)
    except (ImportError, OSError) as error:
        pytest.skip(f"MediaPipe does not start here ({error}): apt-get install libegl1 libgles2 libgl1")
    found = []
    with landmarker:
        for t, frame in enumerate(frames):
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
            faces = landmarker.detect_for_video(image, 40 * t).face_landmarks
            found.append([(p.x * SIZE, p.y * SIZE) for p in faces[0]] if faces else np.full((478, 2), np.nan))
    found = np.array(found)
    seen = np.isfinite(found[:, 0, 0])
    assert seen.mean() >= 0.95
    with np.load(clip / "truth.npz") as truth:
        distance = np.linalg.norm(found[seen, :468] - truth["mesh_2d"][seen], axis=-1)
    assert np.median(distance) < 3.0  # pixels at 256


def test_bad_requests_are_refused_and_leave_nothing(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep.txt").write_text("mine")
    for arguments in ({"size": 255}, {"size": 16}, {"speaker": "nobody"}, {"part": "all"}, {"speaker": "anna", "part": "heldout"}):
        with pytest.raises(InputError):
            render_clip(tmp_path / "new", **arguments)
    with pytest.raises(InputError, match="not empty"):
        render_clip(tmp_path / "full", seconds=0.2)
    with pytest.raises(InputError, match="not empty"):
        make_corpus(tmp_path / "full")
    for words, sentence in (
        (["video", "--out", str(tmp_path / "full"), "--seconds", "0.2"], "not empty"),
        (["video", "--out", str(tmp_path / "new"), "--speaker", "nobody"], "choose one of anna, "),
        (["record", "--out", str(tmp_path / "new"), "--only", "nobody"], "choose from anna, "),
    ):
        assert run_command(lambda: tool, "geneface avatar", words) == 2
        assert sentence in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["full"]


def test_a_failure_while_rendering_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(Renderer, "draw", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        render_clip(tmp_path / "new", size=64, seconds=0.2)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora") / "avatar"
    return folder, make_corpus(folder, sentences=6)


def test_the_corpus_keeps_its_format(corpus):
    folder, meta = corpus
    assert json.loads((folder / "meta.json").read_text()) == meta
    assert meta["format"] == "geneface_jax.corpus" and meta["format_version"] == 1
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6e6
    speakers = {split: {c["speaker"] for c in meta["clips"] if c["split"] == split} for split in ("train", "val")}
    assert len(speakers["train"]) >= 16 and len(speakers["val"]) == 2 and not speakers["train"] & speakers["val"]
    assert "demo" not in speakers["train"] | speakers["val"]
    with np.load(folder / "clips.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 3 * len(meta["clips"])
        for clip in meta["clips"][::9]:
            n_frames = clip["n_frames"]
            shapes = {"audio_features": (2 * n_frames, 80), "f0": (2 * n_frames,), "motion": (n_frames, 204)}
            for name, shape in shapes.items():
                array = arrays[f"{clip['name']}/{name}"]
                assert array.shape == shape and array.dtype == np.float16 and np.isfinite(array).all()


def test_the_corpus_is_what_the_speech_and_the_mesh_say(corpus):
    folder, _ = corpus
    speaker = next(iter(voices()))
    clip = sentence_clips(speaker)[2]
    with np.load(folder / "clips.npz") as arrays:
        mel, _ = features_for_frames(clip.samples, clip.n_frames)
        np.testing.assert_allclose(arrays[f"{clip.name}/audio_features"].astype(np.float32), mel, atol=4e-3)
        motion = arrays[f"{clip.name}/motion"].astype(np.float32)
    np.testing.assert_allclose(motion, perform(clip).motion.reshape(-1, 204), atol=2e-3)
    gap = motion.reshape(-1, 68, 3)[:, 62, 1] - motion.reshape(-1, 68, 3)[:, 66, 1]
    loudness = mel.mean(axis=1).reshape(-1, 2).mean(axis=1)
    assert np.corrcoef(gap, loudness)[0, 1] > 0.3
