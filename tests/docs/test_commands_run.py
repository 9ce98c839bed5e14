"""Every command line of the pages that can be run on such a machine is run, at tiny size; command_table.py says how, and which are not."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
import time
from pathlib import Path

import jax
import pytest
import soundfile

from data_tools.avatar.clip import render_clip
from data_tools.command_line import DEFAULT_FEATURES
from geneface_jax.cli.main import main as geneface
from geneface_jax.io import checkpoints, configs
from tests.docs.command_table import NOT_RUN, PREPARE, RUN
from tests.docs.pages import ROOT, Command, commands, english
from tests.synthetic_corpus import write_corpus
from tests.tiny_stages import tiny_stage

COMMANDS = {str(command): command for page in english() for command in commands(page)}
MADE = ("talk.mp4", "talk_debug/landmarks.mp4", "landmarks.mp4", "whole.mp4", "face.webm", "SAID.mp4", "EXPORTED/render.safetensors")
SPEECH = ROOT / "data_tools" / "avatar" / "speech" / "demo_heldout.wav"


def test_the_table_has_every_line_and_no_other():
    assert not set(RUN) & set(NOT_RUN)
    unknown = {line: f"{command.page}:{command.line}" for line, command in COMMANDS.items() if line not in RUN and line not in NOT_RUN}
    assert unknown == {}, "say in tests/docs/command_table.py how these lines are run, or why they are not"
    assert (set(RUN) | set(NOT_RUN)) - set(COMMANDS) == set(), "these lines are in no page any more: take them out of the table"


def test_the_tests_that_do_it_instead_are_there():
    named = {name for reason in NOT_RUN.values() for name in re.findall(r"tests/[\w/.]*\w", reason)}
    assert named and [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_every_line_runs(mediapipe, unoptimized_programs, tmp_path, monkeypatch, capsys):
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    failed, took = [], []
    for line, more in RUN.items():
        if "SUBJECT" in line and not (tmp_path / "SUBJECT").exists():
            shutil.copytree(tmp_path / "people" / "me", tmp_path / "SUBJECT")
        started = time.perf_counter(), time.process_time()
        code = run(COMMANDS[line], more)
        took.append(f"{time.perf_counter() - started[0]:6.1f} s, {time.process_time() - started[1]:5.1f} s of one core: {line}")
        if code != 0:
            failed.append(f"{COMMANDS[line].page}:{COMMANDS[line].line}: exit code {code} of {line}\n{capsys.readouterr().err[-2000:]}")
        if line == PREPARE:
            make_networks(tmp_path)
    print(*took, sep="\n")
    assert failed == [], "\n".join(failed)
    for made in MADE:
        assert (tmp_path / made).is_file(), made


def make_files(folder: Path) -> None:
    """What the pages take for granted: a video of a person, recordings, videos of several speakers, a corpus."""
    video = render_clip(folder / "avatar", size=256, seconds=4.0) / "video.mp4"
    for name in ("my_video.mp4", "VIDEO.mp4", "interview.mp4", "VIDEOS/ada/talk.mp4", "VIDEOS/ben/talk.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, folder / name)
    samples, rate = soundfile.read(SPEECH)
    for name in ("speech.wav", "SPEECH.wav"):
        soundfile.write(folder / name, samples[:rate], rate)
    write_corpus(folder / "CORPUS", audio_model=DEFAULT_FEATURES)


def make_networks(folder: Path) -> None:
    """An untrained PostNet for `people/me`, which says of itself that it was trained for a step."""
    person, tiny = folder / "people" / "me", folder / "tiny"
    shutil.copytree(person / "dataset", tiny / "dataset")
    shutil.copytree(folder / "CORPUS", tiny / "corpus")
    stage = tiny_stage("postnet", tiny, "finetune_audio2motion.steps=0")
    checkpoints.save(person / "postnet", 1, jax.device_get(stage.init(jax.random.key(0))), {"config": stage.config, "metrics": {}})
    configs.save(stage.config, person / "postnet")
    figures = dict.fromkeys(("val/mse", "val/sync", "tr/disc_pos_conf", "tr/disc_neg_conf", "tr/adv"), 0.5)
    (person / "postnet" / "metrics.jsonl").write_text(json.dumps({"step": 1, **figures}) + "\n", encoding="utf-8")


def run(command: Command, more: tuple[str, ...]) -> int:
    """Runs a line with what is appended, in this process; returns its exit code."""
    words = [*command.words, *more]
    try:
        if words[0] == "geneface":
            return geneface(words[1:])
        assert words[:2] == ["python", "-m"], command
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words[2:])
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as stopped:
        return int(stopped.code or 0)
