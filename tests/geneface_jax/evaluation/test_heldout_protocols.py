"""Held-out evaluation and video comparison end to end, with stand-ins for networks; MediaPipe only where it runs."""

import functools
import json
import shutil

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.landmarks68 import canonical_face
from data_tools.video import read_video, write_video
from geneface_jax.cli import main as cli
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation import heldout, metrics
from geneface_jax.evaluation.evaluate import evaluate, evaluate_speech, motion_report
from geneface_jax.evaluation.report import to_json
from geneface_jax.evaluation.scores import compare_videos, landmark_tracks, load_head_masks, video_against_audio
from geneface_jax.inference import renderer as renderer_module
from tests.synthetic_subject import write_subject
from tests.tiny_speech import StubRenderer


def mediapipe_runs():
    try:
        with landmark_tracks(1):
            return True
    except InputError:
        return False


needs_mediapipe = pytest.mark.skipif(not mediapipe_runs(), reason="MediaPipe can't run here (its system libraries are missing)")


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A subject whose landmarks lie on its disc of a head, so that every region has pixels."""
    folder = tmp_path_factory.mktemp("person")
    dataset = write_subject(folder / "dataset", frames=44, size=64)
    with np.load(dataset / "arrays.npz") as archive:
        arrays = dict(archive)
    vertices = canonical_face()["vertices"]
    points = np.concatenate([vertices, vertices[:10]]) * [2.2, -2.2, 2.2] + [32, 32, 0]
    sway = 3 * np.sin(np.arange(44) / 3.0)[:, None, None] * np.array([1.0, 0, 0])
    arrays["landmarks_mediapipe"] = (points + sway).astype(np.float32)
    arrays["lip_box"] = np.tile(np.array([26, 38, 38, 50], np.int32), (44, 1))
    np.savez(dataset / "arrays.npz", **arrays)
    return folder


class TrueRenderer(StubRenderer):
    """Renders the true frames, `error` levels too bright."""

    error = 0

    def __init__(self, parts, subject=None):
        super().__init__(subject or Subject.load(parts.folder / "dataset"))
        self.torso = parts.torso is not None

    def render(self, motion, cameras, eye_openness, *, background=None, end_threshold=0.01):
        assert background is None if self.torso else background.shape == (len(motion), 64, 64, 3)
        for frame in self.subject.frames(self.subject.heldout):
            yield np.clip(frame.astype(int) + self.error * (1 + self.torso), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(person, tmp_path_factory):
    """The same with folders of checkpoints, which the stand-in for the renderer does not open."""
    folder = shutil.copytree(person, tmp_path_factory.mktemp("trained") / "person")
    for stage in ("head", "torso"):
        (folder / stage / "checkpoints").mkdir(parents=True)
    return folder


@pytest.fixture
def rendering(monkeypatch):
    monkeypatch.setattr(renderer_module, "open_renderer", TrueRenderer)
    return TrueRenderer


def test_a_perfect_renderer_is_perfect_and_a_constant_error_is_known(trained, rendering, monkeypatch):
    target = heldout.heldout_target(Subject.load(trained))
    monkeypatch.setattr(rendering, "error", 0)
    perfect = heldout.score_render(target, heldout.render_target(trained, target, "head"), faces=False)["pixels"]
    assert set(perfect) == {"face hull", "head", "mouth", "neck band", "frame"}
    assert all(row["psnr"] == np.inf and row["ssim"] == pytest.approx(1, abs=1e-6) and row["frames"] == 4 for row in perfect.values())
    assert perfect["mouth"]["pixels"] == 18 * 18 < perfect["face hull"]["pixels"] < 64 * 64
    monkeypatch.setattr(rendering, "error", 5)
    off = heldout.score_render(target, heldout.render_target(trained, target, "head"), faces=False)["pixels"]
    assert off["face hull"]["psnr"] == pytest.approx(10 * np.log10(255**2 / 25), abs=0.1)


def test_the_size_is_area_resampled_and_barely_changes_a_smooth_error(person):
    subject = Subject.load(person)
    figures = {}
    for size in (64, 32):
        target = heldout.heldout_target(subject, size)
        images = [np.clip(target.subject.frames([i])[0].astype(int) + 8, 0, 255).astype(np.uint8) for i in target.frames]
        figures[size] = heldout.score(target, images)["frame"]
    assert figures[32]["pixels"] == 32 * 32
    assert figures[32]["psnr"] == pytest.approx(figures[64]["psnr"], abs=0.3)


def test_true_torso_and_background_stand_behind_the_head(trained, rendering, monkeypatch):
    subject, seen = Subject.load(trained), []
    monkeypatch.setattr(rendering, "render", lambda self, *args, background, **named: seen.append(background) or iter(()))
    target = heldout.heldout_target(subject)
    heldout.render_target(trained, target, "head")
    outside = subject.head_masks(target.frames) == 0
    difference = np.abs(seen[0].astype(int) - subject.frames(target.frames))[outside]
    assert difference.mean() < 2  # JPEG


def test_baselines_copy_only_training_frames(person):
    subject = Subject.load(person)
    rows = heldout.baselines(heldout.heldout_target(subject), subject, faces=False)
    assert set(rows) == {"nearest by the dataset's landmarks", "mean training image"}
    assert rows["nearest by the dataset's landmarks"]["face hull"]["psnr"] > rows["mean training image"]["face hull"]["psnr"]
    again = heldout.baselines(heldout.full_clip_target(subject), subject, faces=False)  # training frames find themselves
    assert again["nearest by the dataset's landmarks"]["frame"]["psnr"] == np.inf


def test_a_light_dataset_can_not_be_evaluated(person, tmp_path):
    light = tmp_path / "dataset"
    light.mkdir()
    for name in ("meta.json", "arrays.npz", "background.png"):
        shutil.copy(person / "dataset" / name, light)
    with pytest.raises(InputError, match="light copy"):
        heldout.heldout_target(Subject.load(light))


def test_the_command_prints_tables_and_writes_json_and_video(person, tmp_path, capsys):
    assert cli.main(["evaluate", "--subject", str(person), "--baselines", "--size", "32", "--json", str(tmp_path / "a.json")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "mean training" in text and "4 frames (40 to 43)" in text and "32x32" in text
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["size"] == 32 and report["pixels"]["mean training image"]["face hull"]["psnr"] > 5


def test_the_command_scores_a_trained_person(trained, rendering, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "find_lpips", lambda net, source=None: None)
    monkeypatch.setattr(rendering, "error", 5)
    out = tmp_path / "side.mp4"
    assert cli.main(["evaluate", "--subject", str(trained), "--out", str(out), "--json", str(tmp_path / "a.json")]) == 0
    for name, error in (("side.mp4", 5), ("side_composite.mp4", 10)):
        frames = list(read_video(tmp_path / name))
        assert len(frames) == 4 and frames[0].shape == (64, 192, 3)
        difference = frames[0][:, 128:].mean()
        assert difference == pytest.approx(4 * error, abs=3), "truth, frame, and four times the difference"
    report = json.loads((tmp_path / "a.json").read_text())
    pixels = report["pixels"]
    assert report["protocol"] == "head" and pixels["rendered"]["frame"]["psnr"] > pixels["composite"]["frame"]["psnr"] + 5 > 30
    assert set(report["pose_jitter"]) == {"before", "after"} and report["speed"]["rendered"] is None, "four frames are too few to time"
    text = " ".join(capsys.readouterr().out.split())
    assert "own landmarks" in text, "the caption says what drove the frames"
    assert "band around the neck (head)" in text and "n/a (get the weights with `python scripts/fetch_lpips.py`)" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "either --subject DIR or --video MP4"),
        (["--subject", "a", "--video", "b.mp4"], "either --subject"),
        (["--video", "b.mp4", "--truth-masks", "m.npz"], "without --truth"),
        (["--subject", "nowhere", "--size", "8"], "--size is 8"),
        (["--subject", "nowhere"], "no subject folder nowhere"),
    ],
)
def test_bad_commands_are_refused_in_one_sentence(words, sentence, capsys):
    assert cli.main(["evaluate", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_head_masks_are_read_plain_and_packed(tmp_path):
    mask = np.random.default_rng(0).random((3, 16, 16)) > 0.5
    np.savez(tmp_path / "plain.npz", head_mask=mask.astype(np.uint8) * 255)
    np.savez(tmp_path / "packed.npz", head_mask=np.packbits(mask, axis=-1))
    for name in ("plain", "packed"):
        np.testing.assert_array_equal(load_head_masks(tmp_path / f"{name}.npz") >= 128, mask)
    np.savez(tmp_path / "none.npz", other=mask)
    for name in ("none", "absent"):
        with pytest.raises(InputError, match="head_mask"):
            load_head_masks(tmp_path / f"{name}.npz")


@needs_mediapipe
def test_videos_without_a_face_are_scored_whole_or_refused(person, tmp_path):
    frames = Subject.load(person).frames(range(12))
    write_video(tmp_path / "a.mp4", frames, np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32))
    write_video(tmp_path / "b.mp4", frames[:10], None)
    result = compare_videos(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert result["frames"] == 10 and result["frames_left_out"] == 2 and result["pixels"]["frame"]["psnr"] > 35
    assert result["landmarks"]["frames"] == 0 and to_json(result)["landmarks"]["lmd"] is None
    with pytest.raises(InputError, match="No face is found"):
        video_against_audio(tmp_path / "a.mp4")
    write_video(tmp_path / "short.mp4", frames[:3], None)
    with pytest.raises(InputError, match="only 3 frames in common"):
        compare_videos(tmp_path / "short.mp4", tmp_path / "b.mp4")


def test_motion_report_of_the_truth_is_perfect():
    truth = np.random.default_rng(0).normal(0, 0.3, (40, 68, 3)).astype(np.float32)
    report = motion_report(truth, truth, canonical_mean())
    assert report["mouth_lmd_mm"] == 0 and report["mouth_correlation"] == pytest.approx(1) and report["mouth_best_lag"] == 0
    late = motion_report(np.roll(truth, 2, axis=0), truth, canonical_mean())
    assert late["mouth_best_lag"] == 2 and late["mouth_lmd_mm"] > report["no_motion_mm"]


def canonical_mean():
    from data_tools.landmarks68 import mean_face

    return mean_face()


@pytest.mark.slow
@needs_mediapipe
def test_the_anchor_clip_gives_the_published_baselines(shared):
    """If these differ, the metric differs: 25.5 dB for the nearest training frame and 24.3 dB for the mean image, face hull, 256x256."""
    from geneface_jax.evaluation.heldout import MeanImage, nearest_training_frames
    from geneface_jax.evaluation.metrics import face_hull_mask, psnr
    from geneface_jax.inference.pictures import resize

    frames, points = [], []
    with landmark_tracks(1, filtered=True) as (track,):
        for frame in read_video(shared / "clips" / "anchor_20s.mp4", 25):
            points.append(track.add(frame) * 256 / frame.shape[0])
            frames.append(resize(frame, 256, 256))
    train = range(len(frames) * 10 // 11)
    heldout_frames = range(train.stop, len(frames))
    nearest = nearest_training_frames(np.stack(points), train, heldout_frames)
    mean = MeanImage()
    for i in train:
        mean.add(frames[i])
    hulls = [face_hull_mask(points[i], 256) for i in heldout_frames]
    copied = [psnr(frames[k], frames[i], hull) for k, i, hull in zip(nearest, heldout_frames, hulls, strict=True)]
    averaged = [psnr(mean.result(), frames[i], hull) for i, hull in zip(heldout_frames, hulls, strict=True)]
    assert np.mean(copied) == pytest.approx(25.5, abs=0.2)
    assert np.mean(averaged) == pytest.approx(24.3, abs=0.2)


def test_a_clip_of_other_features_is_refused_before_anything_is_rendered(tmp_path):
    other = write_subject(tmp_path / "other")
    for measure in (functools.partial(evaluate, protocol="audio", out=tmp_path / "out.mp4"), evaluate_speech):
        with pytest.raises(InputError, match="other has .*mel_f0.*demo.* has .*whisper"):
            measure("demo", against=other)
    assert not (tmp_path / "out.mp4").exists()
