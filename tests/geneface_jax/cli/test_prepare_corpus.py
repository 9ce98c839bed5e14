"""`geneface prepare-corpus`: its sentences, exit codes and what it hands on."""

import re
from pathlib import Path

import pytest

from data_tools.command_line import DEFAULT_FEATURES
from data_tools.corpus import build as module
from geneface_jax.cli.main import main as geneface


@pytest.fixture
def videos(tmp_path) -> Path:
    for speaker in ("ada", "ben"):
        (tmp_path / "videos" / speaker).mkdir(parents=True)
        (tmp_path / "videos" / speaker / "1.mp4").write_bytes(b"")
    return tmp_path / "videos"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["EMPTY"], "There is no video in"),
        (["ABSENT"], "not a folder"),
        (["VIDEOS/ada"], "Every video in .* belongs to one speaker"),
        (["VIDEOS", "--limit", "0"], "--limit is 0"),
        (["VIDEOS", "--workers", "0"], "--workers is 0"),
        (["VIDEOS", "--config.filters.min_face_pixel=3"], "did you mean --config.filters.min_face_pixels"),
        (["VIDEOS", "--config.speaker=folders"], "config.speaker is 'folders': use one of folder, top, file"),
        (["VIDEOS", "--syncnet", "ABSENT"], "no checkpoint|doesn't exist|holds no"),
        (["VIDEOS", "--hubert", "ABSENT"], "write --features hubert"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(videos, tmp_path, capsys, arguments, sentence):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "ABSENT": tmp_path / "absent", "VIDEOS": videos}
    for name, place in places.items():
        arguments = [text.replace(name, str(place)) for text in arguments]
    assert geneface(["prepare-corpus", *arguments, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1 and re.search(sentence, message[0])
    assert not (tmp_path / "out" / "meta.json").exists()


def test_videos_that_cannot_be_read_are_dropped_and_counted(videos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "detect", lambda frames, fps: None)
    assert geneface(["prepare-corpus", str(videos), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "clips of 0 speakers are left" in message and "unreadable" in message


def test_overrides_and_options_reach_the_corpus(videos, tmp_path, monkeypatch, capsys):
    seen = {}

    def build_corpus(folder, out, settings, **options):
        seen.update(folder=folder, out=out, settings=settings, **options)
        return {"clips": 2, "seconds": 3.0, "speakers": 2, "offsets_corrected": 0, "dropped": {}}

    monkeypatch.setattr(module, "build_corpus", build_corpus)
    arguments = ["--workers", "3", "--limit", "7", "--config.filters.min_face_pixels=60", "--config.split.val_share=0.2"]
    assert geneface(["prepare-corpus", str(videos), "--out", str(tmp_path / "out"), *arguments]) == 0
    assert seen["settings"].filters.min_face_pixels == 60.0 and seen["settings"].split.val_share == 0.2
    assert (seen["workers"], seen["limit"], seen["scorer"], seen["features"].name) == (3, 7, None, DEFAULT_FEATURES)
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
