"""Which networks a subject folder holds: a family of renderer (head, torso) and who speaks."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from data_tools.errors import InputError

TORSO_OF = {"head_sr": "torso_sr", "head": "torso", "nerf_head": "nerf_torso"}
"""Head stage -> its torso stage, the preferred family first: super-resolution is trained on top of what `head` does."""

SPEECH = ("postnet", "audio2motion")
"""Who makes the motion, the preferred one first: a person's PostNet, or a VAE as it is (GeneFace++ has no PostNet)."""


@dataclasses.dataclass(frozen=True)
class SubjectParts:
    """The networks of a subject folder.

    Attributes:
      folder: the subject folder.
      head: a key of `TORSO_OF`.
      torso: its torso stage; None when the folder has none.
      speech: one of `SPEECH`; None when the folder has none.
    """

    folder: Path
    head: str
    torso: str | None
    speech: str | None

    @property
    def stages(self) -> list[str]:
        """The stages that are there: speech, head, torso."""
        return [stage for stage in (self.speech, self.head, self.torso) if stage]

    def __str__(self) -> str:
        return f"{self.head} and {self.torso}" if self.torso else f"{self.head} without a torso"


def find_parts(subject_dir: str | os.PathLike[str], *, need_torso: bool = True, need_speech: bool = True) -> SubjectParts:
    """Looks what a subject folder holds.

    Args:
      subject_dir: the subject folder.
      need_torso, need_speech: whether a folder without is refused.

    Raises:
      InputError: no folder, no dataset, or a stage is missing; names the first that is and the command that makes it.
    """
    folder = Path(subject_dir)
    if not folder.is_dir():
        raise InputError(f"there is no subject folder {folder}; make one with `geneface fit VIDEO --out {folder}`")
    if not (folder / "dataset").is_dir():
        raise InputError(f"{folder} has no dataset/; make it with `geneface prepare VIDEO --out {folder}`")
    speech = next((stage for stage in SPEECH if _trained(folder, stage)), None)
    if need_speech and speech is None:
        raise _untrained(folder, SPEECH[0])
    head = next((stage for stage in TORSO_OF if _trained(folder, stage)), None)
    if head is None:
        raise _untrained(folder, "head")
    torso = TORSO_OF[head] if _trained(folder, TORSO_OF[head]) else None
    if need_torso and torso is None:
        raise _untrained(folder, TORSO_OF[head])
    return SubjectParts(folder, head, torso, speech)


def _trained(folder: Path, stage: str) -> bool:
    return (folder / stage / "checkpoints").is_dir()


def _untrained(folder: Path, stage: str) -> InputError:
    train = f"geneface train --config configs/{stage}.py:demo --workdir {folder / stage}"
    return InputError(f"{folder} has no trained {stage}/; make it with `{train}` or go on with `geneface fit VIDEO --out {folder}`")
