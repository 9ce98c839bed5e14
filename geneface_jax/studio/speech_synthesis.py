"""Typed text to speech, where the machine has a synthesiser: the program espeak-ng, run as it is and never linked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from data_tools.errors import InputError
from geneface_jax.studio.workspace import Workspace

PROGRAM = "espeak-ng"
MAX_CHARACTERS = 2000
VOICES = {"en": "en-us", "zh": "cmn"}


def available() -> bool:
    """Whether there is a synthesiser."""
    return shutil.which(PROGRAM) is not None


def speak(words: str, language: str, workspace: Workspace) -> Path:
    """A wav of the text in the private folder; the text goes in by a pipe and is never an option.

    Raises:
      InputError: no text, too much of it, or the synthesiser failed.
    """
    words = (words or "").strip()
    if not words or len(words) > MAX_CHARACTERS:
        raise InputError(f"the text has {len(words)} characters; type 1 to {MAX_CHARACTERS}")
    wav = workspace.new_file("uploads", ".wav")
    command = [PROGRAM, "-v", VOICES[language], "-w", str(wav), "--stdin"]
    if subprocess.run(command, input=words.encode(), capture_output=True, check=False).returncode or not wav.is_file():
        raise InputError("the speech synthesiser could not speak this text; record it instead")
    return wav
