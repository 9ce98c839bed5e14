"""The whole of `prepare`: on the avatar, whose truth is known, and on videos it must refuse."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_bytes import contents
from synthetic_video import color_video, ffmpeg

from data_tools import prepare as module
from data_tools.audio.offset import OpeningPredictor
from data_tools.audio.sound import load_audio
from data_tools.dataset import pipeline as steps
from data_tools.dataset import settings
from data_tools.errors import InputError
from data_tools.landmarks68 import LANDMARKS_68, RIGID, motion_from_landmarks
from data_tools.prepare import prepare


@pytest.fixture(scope="module")
def dataset(mediapipe, avatar, tmp_path_factory):
    return prepare(avatar / "video.mp4", tmp_path_factory.mktemp("a person") / "dataset", size=256, consent="the avatar", progress=False)


@pytest.fixture(scope="module")
def arrays(dataset):
    with np.load(dataset / "arrays.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def truth(avatar):
    with np.load(avatar / "truth.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def test_files_and_shapes_are_those_of_the_format(dataset, arrays):
    meta = json.loads((dataset / "meta.json").read_text(encoding="utf-8"))
    frames = meta["n_frames"]
    assert (meta["format"], meta["format_version"], meta["fps"], meta["size"]) == ("geneface_jax.subject", 1, 25, 256)
    assert frames == 100 and meta["n_train"] == 90 and meta["consent"] == "the avatar"
    skin = len(arrays["skin_texture"])
    assert skin > 500
    shapes = {
        "audio_features": (2 * frames, 80), "f0": (2 * frames,), "motion": (frames, 68, 3), "motion_mean": (68, 3), "motion_std": (68, 3),
        "mean_face": (68, 3), "landmarks_2d": (frames, 68, 2), "landmarks_mediapipe": (frames, 478, 3), "cameras": (frames, 4, 4),
        "rigid_points": (len(RIGID), 3), "rigid_weights": (len(RIGID),), "skin_points": (skin, 3), "skin_normals": (skin, 3),
        "skin_texture": (skin,),
        "eye_openness": (frames,), "face_box": (frames, 4), "lip_box": (frames, 4), "interpolated": (frames,),
    }  # fmt: skip
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert all(np.isfinite(array).all() for array in arrays.values())
    for kind, channels in (("frames/{:06d}.jpg", 3), ("head/{:06d}.png", None), ("torso/{:06d}.png", 4)):
        assert len(list((dataset / kind.split("/")[0]).iterdir())) == frames
        picture = cv2.imread(str(dataset / kind.format(frames - 1)), cv2.IMREAD_UNCHANGED)
        assert picture.shape == ((256, 256, channels) if channels else (256, 256))
    assert not list(dataset.parent.glob("*partial")) and not (dataset / "steps.json").exists()
    assert (dataset / "report.html").stat().st_size > 10_000


def test_the_sound_is_as_long_as_the_picture(dataset):
    import wave

    with wave.open(str(dataset / "audio.wav")) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth(), sound.getnframes()) == (16000, 1, 2, 64000)


def test_cameras_see_the_mean_face_where_the_landmarks_are(dataset, arrays):
    k = json.loads((dataset / "meta.json").read_text())["intrinsics"]
    points = (arrays["motion"] / 10.0 + arrays["mean_face"]) / 10.0
    to_camera = np.linalg.inv(arrays["cameras"].astype(np.float64))
    seen = np.einsum("tij,tpj->tpi", to_camera[:, :3, :3], points) + to_camera[:, None, :3, 3]
    u, v = k["cx"] - k["fx"] * seen[..., 0] / seen[..., 2], k["cy"] + k["fy"] * seen[..., 1] / seen[..., 2]
    assert np.abs(np.stack([u, v], -1) - arrays["landmarks_2d"]).mean() < 0.1


def test_the_head_turns_as_it_truly_did(arrays, truth):
    found, true = (cameras[:, :3, 2] for cameras in (arrays["cameras"], truth["cameras"]))
    for axis in (0, 1):
        assert np.corrcoef(found[:, axis], true[:, axis])[0, 1] > 0.8


def test_the_mouth_opens_as_it_truly_did(arrays, truth):
    true = motion_from_landmarks(truth["landmarks_3d"]) if "landmarks_3d" in truth else truth["motion"]
    opening = [
        np.linalg.norm(m[:, 62] - m[:, 66], axis=-1) for m in (arrays["motion"] + 10 * arrays["mean_face"], true + 10 * arrays["mean_face"])
    ]
    assert np.corrcoef(*opening)[0, 1] > 0.7


def test_head_masks_agree_with_the_truth(dataset, avatar):
    overlaps = []
    for index in (0, 40, 80):
        found, true = (cv2.imread(str(folder / "head" / f"{index:06d}.png"), cv2.IMREAD_GRAYSCALE) > 127 for folder in (dataset, avatar))
        overlaps.append((found & true).sum() / (found | true).sum())
    assert min(overlaps) > 0.8


def test_head_overtorso_over_background_is_the_frame(dataset):
    background = cv2.imread(str(dataset / "background.png")).astype(float)
    for index in (0, 60):
        frame = cv2.imread(str(dataset / "frames" / f"{index:06d}.jpg")).astype(float)
        head = cv2.imread(str(dataset / "head" / f"{index:06d}.png"), cv2.IMREAD_GRAYSCALE)[..., None] / 255.0
        torso = cv2.imread(str(dataset / "torso" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED).astype(float)
        below = torso[..., :3] * torso[..., 3:] / 255.0 + background * (1.0 - torso[..., 3:] / 255.0)
        assert np.abs(head * frame + (1.0 - head) * below - frame).mean() < 1.5


def test_the_same_call_again_changes_nothing(dataset, avatar, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    monkeypatch.setattr(steps, "scan", lambda *_: pytest.fail("looked at the video again"))
    prepare(avatar / "video.mp4", dataset, size=256, consent="the avatar", progress=False)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_an_interrupted_run_goes_on_where_it_was(mediapipe, avatar, tmp_path, monkeypatch):
    """With chunks of a second: what the first run finished is not touched again, and the result is that of an undisturbed run."""
    monkeypatch.setattr(settings, "CHUNK_FRAMES", 25)
    undisturbed = contents(prepare(avatar / "video.mp4", tmp_path / "undisturbed" / "dataset", size=64, trim=(0, 3), progress=False))
    out = tmp_path / "disturbed" / "dataset"
    real = {name: getattr(steps, name) for name in ("analyze_chunk", "make_chunk")}
    for name in real:

        def dies_at_the_third(job, tick, name=name):
            if job.chunk.index == 2:
                raise KeyboardInterrupt
            real[name](job, tick)

        monkeypatch.setattr(steps, name, dies_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            prepare(avatar / "video.mp4", out, size=64, trim=(0, 3), progress=False)
        monkeypatch.setattr(steps, name, real[name])
    assert not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in sorted((out.parent / "dataset.partial" / "frames").iterdir())}
    assert len(kept) == 50
    monkeypatch.setattr(steps, "scan", lambda *_: pytest.fail("scanned again"))
    monkeypatch.setattr(steps, "analyze_chunk", lambda *_: pytest.fail("analyzed again"))
    prepare(avatar / "video.mp4", out, size=64, trim="0-3", progress=False, name="undisturbed")
    assert all((out / "frames" / path.name).stat().st_mtime_ns == time for path, time in kept.items())
    assert contents(out) == undisturbed


@pytest.fixture(scope="module")
def hidden(avatar, tmp_path_factory):
    """Makes the avatar's video with the picture black between two times, at 30 fps in another container with stereo mp3 sound."""

    def make(start: float, end: float) -> Path:
        path = tmp_path_factory.mktemp("é à ü") / "clip ö.mkv"
        cover = f"drawbox=w=iw:h=ih:color=black:t=fill:enable='between(t,{start},{end})'"
        ffmpeg("-i", avatar / "video.mp4", "-vf", f"{cover},fps=30", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "12",
               "-c:a", "libmp3lame", "-ar", "44100", "-ac", "2", path)  # fmt: skip
        return path

    return make


def test_a_short_gap_another_rate_mp3_and_odd_names_work_and_are_noted(mediapipe, hidden, tmp_path):
    out = prepare(hidden(2.0, 2.25), tmp_path / "à b" / "dataset", size=64, progress=False)
    changes = " ".join(json.loads((out / "meta.json").read_text(encoding="utf-8"))["source"]["changes"])
    for word in ("interpolated", "from 30 to 25 fps", "16 kHz mono"):
        assert word in changes
    with np.load(out / "arrays.npz") as archive:
        gap = np.flatnonzero(archive["interpolated"])
        assert 5 <= len(gap) <= 8 and abs(gap[0] - 50) <= 1
        assert np.abs(np.diff(archive["cameras"][gap[0] - 2 : gap[-1] + 3, :3, 3], axis=0)).max() < 0.03


def test_a_long_gap_is_refused_with_the_trim_that_avoids_it(mediapipe, hidden, tmp_path):
    with pytest.raises(InputError, match=r"lost at 3\.[0-9]+-3\.[0-9]+ s.*--trim 0\.00-3\.[0-9]+"):
        prepare(hidden(3.1, 3.7), tmp_path / "dataset", size=64, progress=False)
    assert not (tmp_path / "dataset").exists()


def test_two_people_are_refused(mediapipe, avatar, tmp_path):
    twins = tmp_path / "twins.mp4"
    ffmpeg("-i", avatar / "video.mp4", "-vf", "split[a][b];[a][b]hstack", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "copy", twins)
    with pytest.raises(InputError, match="Two faces of similar size"):
        prepare(twins, tmp_path / "dataset", size=64, progress=False)


def test_no_face_is_refused(mediapipe, tmp_path):
    with pytest.raises(InputError, match="No face was found"):
        prepare(color_video(tmp_path / "v.mp4"), tmp_path / "dataset", size=64, progress=False)


def test_silence_is_refused(tmp_path, mediapipe, avatar):
    ffmpeg("-i", avatar / "video.mp4", "-af", "volume=0", "-c:v", "copy", "-c:a", "aac", tmp_path / "silent.mp4")
    with pytest.raises(InputError, match="silent"):
        prepare(tmp_path / "silent.mp4", tmp_path / "dataset", size=64, progress=False)


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (dict(sound=None), {}, "no sound"),
        (dict(seconds=2.0), {}, "at least 3 s"),
        (dict(), dict(trim="1-2.5"), "after --trim"),
        (dict(), dict(trim="2-1"), "start before the end"),
        (dict(), dict(trim="soon"), "A-B"),
        (dict(), dict(size=63), "even number"),
        (dict(), dict(face_model="flame"), "--face-model flame does not exist"),
        (dict(), dict(face_model="bfm"), "--bfm-folder"),
        (dict(), dict(audio_offset=9.0), "--audio-offset"),
        (dict(), dict(fix_offset=9000.0), "--audio-offset 9 is not possible"),
        (dict(), dict(fix_offset="auto"), "--fix-offset auto needs a network"),
        (dict(), dict(fix_offset=40.0, audio_offset=0.04), "are both given"),
        (dict(), dict(segmenter_model="nowhere.tflite"), "selfie_multiclass"),
        (dict(), dict(workers=0), "--workers"),
    ],
)
def test_refused_before_any_work_and_nothing_earlier_is_touched(tmp_path, make, options, sentence):
    out = tmp_path / "dataset"
    out.mkdir()
    (out / "earlier").write_text("result")
    with pytest.raises(InputError, match=sentence):
        prepare(color_video(tmp_path / "v.mp4", **make), out, progress=False, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "v.mp4"]
    assert (out / "earlier").read_text() == "result"


def knows(truth: dict[str, np.ndarray], late: float) -> OpeningPredictor:
    """Predicts the true opening, `late` frames too early."""
    frames = np.arange(len(truth["mouth_opening"]))
    return OpeningPredictor(lambda samples, count: np.interp(frames + late, frames, truth["mouth_opening"])[:count], "knows")


def test_an_offset_is_corrected_to_a_fraction_of_a_frame_or_reported(mediapipe, avatar, truth, tmp_path, caplog):
    folders = {}
    for choice in ("auto", None):
        folders[choice] = tmp_path / str(choice) / "dataset"
        with caplog.at_level("WARNING"):
            prepare(avatar / "video.mp4", folders[choice], size=64, fix_offset=choice, predictor=knows(truth, 2.5))
    fixed, left = (json.loads((folder / "meta.json").read_text())["source"] for folder in folders.values())
    assert fixed["audio_offset"] == pytest.approx(0.1, abs=0.02) and fixed["fix_offset"] is True
    assert "audio_offset" not in left and "fix_offset" not in left
    sound, moved = (load_audio(folders[choice] / "audio.wav") for choice in (None, "auto"))
    delay = round(fixed["audio_offset"] * 16000)
    np.testing.assert_allclose(moved[delay:], sound[: len(sound) - delay], atol=1e-4)
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders.values()]
    assert abs(reports[0]["values"]["mouth_offset_ms"]) < 1.0 and reports[0]["offset"]["suggested_audio_offset"] is None
    assert reports[1]["values"]["mouth_offset_ms"] == pytest.approx(1000.0 * fixed["audio_offset"], abs=1.0)
    warning = [record.getMessage() for record in caplog.records if "out of sync" in record.getMessage()]
    assert len(warning) == 1 and f"--fix-offset {1000.0 * fixed['audio_offset']:.0f}) corrects it." in warning[0]


def test_a_cut_off_file_is_refused(mediapipe, avatar, tmp_path):
    path = tmp_path / "cut.mkv"
    ffmpeg("-i", avatar / "video.mp4", "-c", "copy", path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(InputError):
        prepare(path, tmp_path / "dataset", size=64, progress=False)


def test_the_command_line_prints_one_sentence_and_exits_with_2(tmp_path):
    command = [sys.executable, "-m", "data_tools.prepare", str(tmp_path / "absent.mp4"), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(module.__file__).parents[1])
    assert result.returncode == 2
    assert result.stderr.strip().count("\n") == 0 and "absent.mp4" in result.stderr


def test_landmark_table_is_the_one_of_the_format(arrays):
    np.testing.assert_array_equal(arrays["landmarks_2d"], arrays["landmarks_mediapipe"][:, LANDMARKS_68, :2])
