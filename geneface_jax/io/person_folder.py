"""A person's folder: which trained networks it holds, and its model card."""

import dataclasses
import datetime
import difflib
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_tools.errors import InputError
from data_tools.io import write_text
from data_tools.records import Field, check_fields, read_record
from geneface_jax.io import checkpoints, configs

TORSO_OF = {"head_sr": "torso_sr", "head": "torso", "nerf_head": "nerf_torso"}
"""Head stage -> its torso stage, in order of preference: super-resolution is trained on top of a finished `head`."""

SPEECH = ("postnet", "audio2motion")
"""Speech-to-motion stages in order of preference: a person's PostNet, or a plain VAE (GeneFace++ has no PostNet)."""


@dataclasses.dataclass(frozen=True)
class SubjectParts:
    """The stages of a subject folder that inference uses.

    Attributes:
      folder: the subject folder.
      head: a key of `TORSO_OF`.
      torso: its torso stage, or None.
      speech: one of `SPEECH`, or None.
    """

    folder: Path
    head: str
    torso: str | None
    speech: str | None

    @property
    def stages(self) -> list[str]:
        """The stages that exist: speech, head, torso."""
        return [stage for stage in (self.speech, self.head, self.torso) if stage]

    def __str__(self) -> str:
        return f"{self.head} and {self.torso}" if self.torso else f"{self.head} without a torso"


def find_person(subject: str | os.PathLike[str]) -> Path:
    """The subject folder that is meant: `subject` where that is a folder, else the shipped person of that name ("demo").

    Raises:
      InputError: neither; suggests the shipped person of a similar name.
    """
    folder = folder_of(subject)
    if folder.is_dir():
        return folder
    near = difflib.get_close_matches(folder.name, shipped_people(), 1) if len(folder.parts) == 1 else []
    hint = f"did you mean the shipped person {near[0]}? Otherwise make it" if near else "make one"
    raise InputError(f"There is no subject folder {folder}: {hint} with `geneface fit VIDEO --out {folder}`.")


def folder_of(subject: str | os.PathLike[str]) -> Path:
    """`find_person` that returns a folder which doesn't exist as it is."""
    folder = configs.resolve(subject)
    return folder if folder.is_dir() or len(folder.parts) != 1 else shipped_people().get(folder.name, folder)


def shipped_people() -> dict[str, Path]:
    """Name -> folder of the people that come with the program. Raises InputError if the installation has no checkpoints/."""
    return {path.parent.name: path.parent for path in sorted(configs.shipped("checkpoints").glob("*/dataset"))}


def person_argument(folder: Path) -> str:
    """How `--subject` names a subject folder: a person of an installed wheel by its name, others by their path."""
    return folder.name if folder.is_relative_to(configs.INSTALLED) else str(folder)


def evaluation_folder(subject_dir: Path) -> Path:
    """Where files of an evaluation go: SUBJECT/evaluation; below the current folder for a person of an installed wheel."""
    shipped = subject_dir.is_relative_to(configs.INSTALLED)
    return Path("evaluation") / subject_dir.name if shipped else subject_dir / "evaluation"


def find_parts(subject_dir: str | os.PathLike[str], *, need_torso: bool = True, need_speech: bool = True) -> SubjectParts:
    """Finds the trained networks of a subject folder.

    Args:
      subject_dir: the subject folder, or the name of a shipped person.
      need_torso, need_speech: whether these stages are required.

    Raises:
      InputError: no folder, no dataset, or a missing stage; names the first missing one and the command that makes it.
    """
    folder = find_person(subject_dir)
    if not (folder / "dataset").is_dir():
        raise InputError(f"{folder} has no dataset/: make it with `geneface prepare VIDEO --out {folder}`.")
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
    return InputError(f"{folder} has no trained {stage}/: make it with `{train}`, or continue `geneface fit VIDEO --out {folder}`.")


# -------- Model card: source video, consent, networks, and held-out measurements of a person

STAGES = ("postnet", "head", "torso")
PACKAGES = ("jax", "flax", "optax", "mediapipe", "numpy")


_META = {
    **dict.fromkeys(("name", "face_model", "audio_model"), Field(str)),
    **dict.fromkeys(("size", "n_frames", "n_train"), Field(int, low=1)),
    "fps": Field(float, low=1),
    "source": Field(dict),
}
_SOURCE = {"file": Field(str), "sha256": Field(str), "changes": Field(list, optional=True)}


def write_card(subject: str | os.PathLike, minutes: Mapping[str, float], notes: Sequence[str] = ()) -> Path:
    """Writes `SUBJECT/card.md` from the dataset's meta.json and the checkpoints that inference loads (selected, else newest).

    Args:
      subject: a subject folder with a dataset.
      minutes: wall-clock minutes by stage ("prepare" included).
      notes: sentences about how the networks were trained, one paragraph each.

    Returns:
      the card's path.
    """
    subject = Path(subject)
    where, remedy = subject / "dataset" / "meta.json", "make the dataset again with `geneface prepare`"
    meta = read_record(where, _META, remedy)
    source = check_fields(meta["source"], f"the source in {where}", _SOURCE, remedy)
    seconds = meta["n_frames"] / meta["fps"]
    heldout = meta["n_frames"] - meta["n_train"]
    lines = [
        f"# {meta['name']}: a talking-head model",
        "",
        f"Made on {datetime.date.today().isoformat()} with geneface_jax; {_machine()}.",
        "",
        "## The person",
        f"- Consent: {meta.get('consent') or '**not stated**; ask the person before you make or share videos of them'}",
        f"- Source: `{Path(source['file']).name}`, sha256 `{source['sha256']}`",
        f"- {seconds:.1f} s at {meta['fps']} frames/s, {meta['size']}x{meta['size']} pixels; "
        f"the last {heldout} frames ({heldout / meta['fps']:.1f} s) were held out",
        *(f"- {change}" for change in source.get("changes") or []),
        "",
        "## The networks",
        "| stage | config | steps | minutes | held-out measurements |",
        "|---|---|---|---|---|",
        *(_row(subject, stage, minutes) for stage in STAGES if checkpoints.steps(subject / stage)),
        "",
        *(line for note in notes for line in (note, "")),
        f"Preparing the video took {minutes.get('prepare', 0.0):.1f} minutes; "
        f"landmarks by {meta['face_model']}, audio features {meta['audio_model']}.",
        "",
        "## Use and limits",
        "- Videos made with this model show things the person has not said. Label them as synthetic.",
        "- Good near the head poses and lighting of the source video; poses far from it show artifacts.",
        "- `geneface evaluate --subject DIR` measures it on the held-out frames.",
        "",
    ]
    return write_text(subject / "card.md", "\n".join(lines))


def _row(subject: Path, stage: str, minutes: Mapping[str, float]) -> str:
    selected = checkpoints.read_selected_step(subject / stage)
    step = checkpoints.steps(subject / stage)[-1] if selected is None else selected
    meta = checkpoints.read_meta(subject / stage, step)
    measured = ", ".join(f"{tag} {value:.4g}" for tag, value in meta["metrics"].items())
    took = f"{minutes[stage]:.1f}" if stage in minutes else "-"
    return f"| {stage} | {meta['config'].get('variant', '-')} | {step} | {took} | {measured or '-'} |"


def _machine() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}, {versions}"
