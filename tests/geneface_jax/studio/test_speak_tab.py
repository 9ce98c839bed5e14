"""The equivalent command line of a render."""

import shlex

import pytest

from data_tools.errors import InputError
from geneface_jax.cli import infer as infer_verb
from geneface_jax.inference import controls as controls_module
from geneface_jax.inference.controls import Controls

pytest.importorskip("gradio")

from geneface_jax.studio import page  # noqa: E402
from geneface_jax.studio.page import infer_command  # noqa: E402


def test_the_command_line_says_exactly_what_was_changed(monkeypatch):
    chosen = Controls(mouth_amp=0.75, bg="my picture.png", size=128, crf=30)
    command = shlex.split(infer_command("people/anna", "my speech.wav", chosen))
    assert command[:2] == ["geneface", "infer"]
    import argparse

    parser = argparse.ArgumentParser()
    infer_verb.add_arguments(parser)
    args = parser.parse_args(command[2:])
    assert (args.subject, args.audio) == ("people/anna", "my speech.wav")
    assert controls_module.from_args(args) == chosen
    assert "--" not in infer_command("a", "b", Controls()).split("video.mp4")[1]


@pytest.mark.parametrize("script", ["sleep 60", "exit 1", "head -c 100 /dev/zero > $4; exit 1"])
def test_a_synthesizer_that_hangs_or_fails_is_told_and_leaves_nothing(workspace, monkeypatch, tmp_path, script):
    program = tmp_path / "espeak"
    program.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
    program.chmod(0o700)
    monkeypatch.setattr(page, "PROGRAM", str(program))
    monkeypatch.setattr(page, "SYNTHESIS_SECONDS", 0.3)
    with pytest.raises(InputError, match="synthesizer failed"):
        page.synthesize("hello", "en", workspace)
    assert not list(workspace.cache.iterdir())
