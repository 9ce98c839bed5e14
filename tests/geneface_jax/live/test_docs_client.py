"""The clients of docs/live.md are what they say they are: short, and working."""

from __future__ import annotations

import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio")

from data_tools.audio.sound import save_wav  # noqa: E402
from geneface_jax.data.subject import Subject  # noqa: E402
from tests.geneface_jax.live.live_server import live_server, stand_in_stage, tone  # noqa: E402
from tests.synthetic_subject import write_subject  # noqa: E402

PAGE = Path(__file__).parents[3] / "docs" / "live.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_clients_are_short():
    for language in ("python", "html"):
        (code,) = blocks(language)
        assert len([line for line in code.splitlines() if line.strip()]) <= 36


def test_the_python_client_says_a_recording_and_keeps_what_comes_back(tmp_path):
    subject = Subject.load(write_subject(tmp_path / "dataset"))
    stage, sound = stand_in_stage(subject), tone(2.4)
    save_wav(tmp_path / "speech.wav", sound)
    (tmp_path / "client.py").write_text(blocks("python")[0], encoding="utf-8")
    with live_server(lambda person, size: stage) as (port, _):
        command = [sys.executable, "client.py", f"ws://127.0.0.1:{port}/api/live?person=anna", "speech.wav", "out"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert '"ready"' in done.stdout and '"ahead"' not in done.stdout
    with wave.open(str(tmp_path / "out.wav")) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    first = np.flatnonzero(heard)[0]
    loud = heard[first:].astype(np.float64)[: len(sound) - 1000]
    assert np.corrcoef(loud, sound[1 : 1 + len(loud)])[0, 1] > 0.999
    assert len(list(tmp_path.glob("out-*.jpg"))) > 20
