"""The command line that does what the page did."""

from __future__ import annotations

import dataclasses
import shlex

from data_tools.command_line import flag
from geneface_jax.inference.controls import TRANSPARENT, Controls


def infer_line(subject: str, audio: str, controls: Controls, out: str = "video.mp4") -> str:
    """`geneface infer ...` with every control that differs from its default, quoted for a shell.

    Args:
      subject, audio, out: as they are to be shown: the visitor's own names, not those of the private folder.
      controls: an uploaded background picture is to be named as the visitor knows it.
    """
    if controls.bg == TRANSPARENT:
        out = out.removesuffix(".mp4") + ".webm"
    words = ["geneface", "infer", "--subject", subject, "--audio", audio, "--out", out]
    for field in dataclasses.fields(controls):
        value = getattr(controls, field.name)
        if value != field.default:
            words += [flag(field.name), f"{value}"]
    return shlex.join(words)
