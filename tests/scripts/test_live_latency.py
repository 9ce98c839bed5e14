"""The benchmark of live sessions, for two minutes on stand-ins: what comes back stays in step and in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from geneface_jax.data.subject import Subject  # noqa: E402
from tests.geneface_jax.live.live_server import live_server, stand_in_stage  # noqa: E402
from tests.synthetic_subject import write_subject  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SPEECH = ROOT / "data_tools" / "avatar" / "speech" / "demo_unseen.ogg"
MINUTES = 2


@pytest.mark.slow
def test_two_minutes_of_speech_and_pauses(tmp_path):
    stage = stand_in_stage(Subject.load(write_subject(tmp_path / "dataset", frames=44)))
    with live_server(lambda person, size: stage) as (port, _):
        command = [sys.executable, ROOT / "scripts" / "bench" / "live_latency.py", "--port", port, "--person", "anna", "--speech", SPEECH]
        command += ["--minutes", MINUTES, "--sessions", 2, "--pid", os.getpid(), "--json", tmp_path / "live.json"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60 * MINUTES + 120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "live.json").read_text())
    assert len(found["sessions"]) == 2
    for session in found["sessions"]:
        assert session["frames"] == pytest.approx(session["frames_expected"], rel=0.05), "in real time"
        assert session["step_ms"]["p95"] <= 40 and session["unknown_frames"] <= 0.1 * session["frames"]
        assert session["picture_ms"]["median"] <= 700 and session["picture_ms"]["p95"] <= 1000
        assert session["bargein"].keys() == {"silence_ms", "idle_picture_ms"}
    assert found["memory_mib"]["growth"] <= 0.05
