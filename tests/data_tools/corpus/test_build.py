"""The bookkeeping of a corpus: resumed, killed, re-judged, mended, readable all along. Measuring itself is replaced by something quick."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.corpus import build as module
from data_tools.corpus import selection
from data_tools.corpus.build import Scorer, build_corpus, clip_path, read_clip
from data_tools.corpus.measure import Measurements, UnusableError
from data_tools.corpus.selection import CorpusSettings, histogram
from data_tools.errors import InputError
from data_tools.ffmpeg import VideoInfo
from geneface_jax.io import configs

GOOD = Measurements(
    seconds=2.0, face_pixels=100.0, gap_seconds=0.0, rival_share=0.0, cut_levels=1.0, jump=0.01, sharpness=0.3,
    voiced_share=0.5, offset=0, offset_score=0.0, offset_margin=0.0, offset_confident=False, corrected=0,
)  # fmt: skip


def settings_with(*overrides: str) -> CorpusSettings:
    return CorpusSettings.from_mapping(configs.load("corpus", overrides))


@pytest.fixture
def measured(monkeypatch):
    """Replaces probe and measurement: a "video" holds JSON, either {"seconds", "face"} or {"unusable": reason}. Lists what was measured."""
    calls: list[str] = []

    def probe(path: Path) -> VideoInfo:
        facts = json.loads(path.read_text())
        if "broken" in facts:
            raise InputError(f"{path} is not a video")
        return VideoInfo(640, 480, 25.0, facts.get("seconds", 2.0), "aac")

    def measure_clip(path, info, span, settings, audio, predictor):
        facts = json.loads(path.read_text())
        calls.append(f"{path.parent.name}/{path.stem}" + (f" {span[0]:g}-{span[1]:g}" if span else ""))
        if "unusable" in facts:
            raise UnusableError(facts["unusable"], "made so")
        if "bug" in facts:
            raise np.linalg.LinAlgError("Singular matrix")
        n_frames = round((span[1] - span[0] if span else info.seconds) * 25)
        rng = np.random.default_rng(len(calls))
        shapes = {"audio_features": (2 * n_frames, 80), "f0": (2 * n_frames,), "motion": (n_frames, 204)}
        arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        return arrays, dataclasses.replace(GOOD, seconds=n_frames / 25, face_pixels=facts.get("face", 100.0))

    monkeypatch.setattr(module, "probe", probe)
    monkeypatch.setattr(module, "measure_clip", measure_clip)
    monkeypatch.setattr(module, "detect", lambda frames, fps: None)
    return calls


@pytest.fixture
def videos(tmp_path):
    return videos_in(tmp_path / "videos")


def videos_in(folder: Path, **changes: dict) -> Path:
    """Three speakers with two videos each."""
    for speaker in ("ada", "ben", "cleo"):
        for number in (1, 2):
            path = folder / speaker / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"note": f"{speaker} {number}", **changes.get(f"{speaker}{number}", {})}))
    return folder


def build(videos: Path, out: Path, *overrides: str, **options) -> dict:
    return build_corpus(videos, out, settings_with(*overrides), progress=False, **options)


def meta_of(out: Path) -> dict:
    return json.loads((out / "meta.json").read_text())


def names(out: Path) -> list[str]:
    return sorted(clip["name"] for clip in meta_of(out)["clips"])


ALL = [f"{speaker}/{number}" for speaker in ("ada", "ben", "cleo") for number in (1, 2)]


def test_every_clip_gets_a_file_and_every_speaker_one_side(videos, tmp_path, measured):
    report = build(videos, tmp_path / "out")
    meta = meta_of(tmp_path / "out")
    assert (meta["format"], meta["format_version"], meta["complete"]) == ("geneface_jax.corpus", 2, True)
    assert names(tmp_path / "out") == ALL and report["clips"] == 6 and report["speakers"] == 3
    sides = {clip["speaker"]: set() for clip in meta["clips"]}
    for clip in meta["clips"]:
        sides[clip["speaker"]].add(clip["split"])
        arrays = read_clip(clip_path(tmp_path / "out", clip["name"]))
        assert arrays["motion"].shape == (clip["n_frames"], 204) and len(arrays["f0"]) == 2 * clip["n_frames"]
    assert all(len(found) == 1 for found in sides.values()) and {"train"} in sides.values() and {"val"} in sides.values()


def test_nothing_is_measured_twice(videos, tmp_path, measured):
    build(videos, tmp_path / "out")
    before = (tmp_path / "out" / "meta.json").read_text()
    measured.clear()
    build(videos, tmp_path / "out")
    assert measured == [] and (tmp_path / "out" / "meta.json").read_text() == before


def test_a_changed_video_a_damaged_file_and_a_new_video_are_measured_and_no_other(videos, tmp_path, measured):
    build(videos, tmp_path / "out")
    measured.clear()
    (videos / "ada" / "1.mp4").write_text(json.dumps({"seconds": 3.0}))
    clip_path(tmp_path / "out", "ben/2").write_bytes(b"torn")
    clip_path(tmp_path / "out", "cleo/1").unlink()
    (videos / "ben" / "3.mp4").write_text("{}")
    build(videos, tmp_path / "out")
    assert sorted(measured) == ["ada/1", "ben/2", "ben/3", "cleo/1"]
    assert {clip["name"]: clip["n_frames"] for clip in meta_of(tmp_path / "out")["clips"]}["ada/1"] == 75


def test_changed_filters_are_applied_without_measuring_changed_measuring_is_not(tmp_path, measured):
    videos = videos_in(tmp_path / "videos", ada1={"face": 60.0})
    assert build(videos, tmp_path / "out")["clips"] == 6
    measured.clear()
    report = build(videos, tmp_path / "out", "filters.min_face_pixels=80.0")
    assert measured == [] and report["dropped"]["small_face"]["clips"] == 1 and "ada/1" not in names(tmp_path / "out")
    assert build(videos, tmp_path / "out")["clips"] == 6 and measured == []
    build(videos, tmp_path / "out", "measure.offset_reach=5")
    assert len(measured) == 6


def test_long_videos_are_cut_into_equal_pieces_on_frame_borders(tmp_path, measured):
    videos = videos_in(tmp_path / "videos", ada1={"seconds": 70.0})
    build(videos, tmp_path / "out", "measure.piece_seconds=30.0")
    assert [call for call in measured if "-" in call] == ["ada/1 0-23.32", "ada/1 23.32-46.68", "ada/1 46.68-70"]
    pieces = [clip for clip in meta_of(tmp_path / "out")["clips"] if clip["name"].startswith("ada/1")]
    assert [clip["name"] for clip in pieces] == ["ada/1@0000", "ada/1@0001", "ada/1@0002"]
    assert sum(clip["n_frames"] for clip in pieces) == 1750


def test_what_cannot_be_used_is_dropped_with_its_reason_and_stops_nothing(tmp_path, measured):
    changes = {"ada1": {"broken": 1}, "ada2": {"unusable": "no_face"}, "ben1": {"bug": 1}, "cleo1": {"face": 10.0}}
    report = build(videos_in(tmp_path / "videos", **changes), tmp_path / "out")
    assert {reason: entry["clips"] for reason, entry in report["dropped"].items()} == {
        "unreadable": 1, "failed": 1, "no_face": 1, "small_face": 1,
    }  # fmt: skip
    assert report["examples"]["failed"] == [{"clip": "ben/1", "sentence": "LinAlgError: Singular matrix"}]
    assert names(tmp_path / "out") == ["ben/2", "cleo/2"]
    text = histogram(report)
    assert "2 clips of 2 speakers kept" in text and all(reason in text for reason in report["dropped"])


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_killed_run_leaves_what_it_had_and_the_next_goes_on(videos, tmp_path, measured, monkeypatch, stop_after):
    real = module.process_piece

    def stopping(*arguments):
        if len(measured) == stop_after:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "process_piece", stopping)
    with pytest.raises(KeyboardInterrupt):
        build(videos, tmp_path / "out")
    if stop_after > 1:
        meta = meta_of(tmp_path / "out")
        assert not meta["complete"] and len(meta["clips"]) == stop_after
        assert {clip["split"] for clip in meta["clips"]} == {"train", "val"}
    monkeypatch.setattr(module, "process_piece", real)
    build(videos, tmp_path / "out")
    assert sorted(measured) == ALL == names(tmp_path / "out")
    build(videos, tmp_path / "clean")
    assert meta_of(tmp_path / "out") == meta_of(tmp_path / "clean")


def test_a_file_without_its_line_in_the_journal_is_made_again(videos, tmp_path, measured):
    build(videos, tmp_path / "out")
    journal = tmp_path / "out" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    measured.clear()
    build(videos, tmp_path / "out")
    assert len(measured) == 1 and names(tmp_path / "out") == ALL


def test_meta_names_only_whole_clips_each_time_it_is_written(videos, tmp_path, measured, monkeypatch):
    seen = []
    real = selection.publish

    def watching(out, *arguments):
        report = real(out, *arguments)
        if (out / "meta.json").exists():
            seen.append([clip["name"] for clip in meta_of(out)["clips"]])
            assert all(read_clip(clip_path(out, name)) for name in seen[-1])
        return report

    monkeypatch.setattr(selection, "publish", watching)
    monkeypatch.setattr(module, "PUBLISH_SECONDS", 0.0)
    monkeypatch.setattr(module, "PUBLISH_SHARE", 0.0)
    build(videos, tmp_path / "out")
    assert [len(clips) for clips in seen] == [2, 3, 4, 5, 6, 6]


def test_scores_are_asked_for_once_per_judge_and_filter(videos, tmp_path, measured):
    asked = []

    def scorer(name, value):
        return Scorer(name, lambda arrays: asked.append(arrays["motion"].shape) or value)

    assert build(videos, tmp_path / "out", scorer=scorer("a", 0.5))["clips"] == 6 and len(asked) == 6
    build(videos, tmp_path / "out", scorer=scorer("a", 0.5))
    assert len(asked) == 6
    with pytest.raises(InputError, match="clips of 0 speakers are left"):
        build(videos, tmp_path / "out", scorer=scorer("b", -0.1))
    assert len(asked) == 12 and len(measured) == 6
    assert build(videos, tmp_path / "out", scorer=scorer("c", None))["clips"] == 6


def test_one_speaker_is_refused_before_and_after_filtering(tmp_path, measured):
    videos = videos_in(tmp_path / "videos", **{f"{name}{number}": {"face": 10.0} for name in ("ada", "ben") for number in (1, 2)})
    with pytest.raises(InputError, match=r"clips of 1 speaker are left(.|\n)*small_face +4"):
        build(videos, tmp_path / "out")
    assert not (tmp_path / "out" / "meta.json").exists()
    with pytest.raises(InputError, match="belongs to one speaker .cleo"):
        for name in ("ada", "ben"):
            for number in (1, 2):
                (videos / name / f"{number}.mp4").unlink()
        build(videos, tmp_path / "other")


def test_a_folder_that_holds_something_else_is_left_alone(videos, tmp_path, measured):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("1")
    with pytest.raises(InputError, match="holds something other"):
        build(videos, tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_a_limit_looks_at_so_many_videos_of_different_speakers(videos, tmp_path, measured):
    report = build(videos, tmp_path / "out", limit=3)
    assert len(measured) == 3 and report["speakers"] == 3 and not meta_of(tmp_path / "out")["complete"]


def test_stored_moments_are_those_of_the_stored_motion(videos, tmp_path, measured):
    build(videos, tmp_path / "out")
    path = clip_path(tmp_path / "out", "ada/1")
    with np.load(path, allow_pickle=False) as archive:
        assert archive["motion"].dtype == np.float16
        motion = archive["motion"].astype(np.float64)
        np.testing.assert_allclose(archive["motion_mean"], motion.mean(0), atol=1e-6)
        np.testing.assert_allclose(archive["motion_mean_square"], np.square(motion).mean(0), rtol=1e-5)
