"""The shipped person says what it was never trained on, and is compared with what it should have looked like."""

import json
from pathlib import Path

import pytest

from data_tools.avatar.clip import render_clip
from geneface_jax.cli.main import main as geneface
from geneface_jax.pipeline import prepare

DEMO = Path("checkpoints/demo")


@pytest.mark.slow
def test_audio_protocol_on_a_sentence_never_heard(tmp_path, capsys):
    """Far below the card's figures, which are of the whole sentence, and far above a person that does not move its mouth."""
    render_clip(tmp_path / "clip", "demo", "heldout", size=256, seconds=4.0)
    truth = prepare(tmp_path / "clip" / "video.mp4", tmp_path, size=256, progress=False)
    figures = tmp_path / "figures.json"
    command = ["evaluate", "--subject", str(DEMO), "--against", str(truth), "--protocol", "audio"]
    assert geneface([*command, "--out", str(tmp_path / "beside.mp4"), "--json", str(figures)]) == 0
    assert "landmarks from the audio" in " ".join(capsys.readouterr().out.split())
    found = json.loads(figures.read_text())
    assert found["protocol"] == "audio" and found["frames"] == [0, 100]
    assert found["pixels"]["rendered"]["face hull"]["psnr"] > 23.0
    mouth = found["landmarks"]["rendered"]
    assert mouth["mouth_correlation"] > 0.6 and mouth["lmd"] < 2.0
    assert (tmp_path / "beside.mp4").stat().st_size > 10_000
