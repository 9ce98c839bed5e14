"""The equivalent command line of a render."""

import shlex

import pytest

from geneface_jax.cli import infer as infer_verb
from geneface_jax.inference import controls as controls_module
from geneface_jax.inference.controls import Controls

pytest.importorskip("gradio")

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
