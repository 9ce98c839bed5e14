"""The model card of a subject folder: what it was made from, with whose consent, how, and how well it did."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_tools.io import read_json, write_text
from geneface_jax.io import checkpoints, selected

STAGES = ("postnet", "head", "torso")
PACKAGES = ("jax", "flax", "optax", "mediapipe", "numpy")


def write_card(subject: str | os.PathLike, minutes: Mapping[str, float], notes: Sequence[str] = ()) -> Path:
    """Writes `SUBJECT/card.md` from the dataset's meta.json and the checkpoints that inference loads: chosen, or else newest.

    Args:
      subject: a subject folder with a dataset.
      minutes: wall-clock minutes by part, for the table.
      notes: sentences about how the networks came about, one paragraph each.

    Returns:
      the card's path.
    """
    subject = Path(subject)
    meta = read_json(subject / "dataset" / "meta.json")
    source = meta["source"]
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
        *(f"- {change}" for change in source.get("changes", [])),
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
        "- Good near the head poses and lighting of the source video; poses far from it show artefacts.",
        "- `geneface evaluate --subject DIR` measures it on the held-out frames.",
        "",
    ]
    return write_text(subject / "card.md", "\n".join(lines))


def _row(subject: Path, stage: str, minutes: Mapping[str, float]) -> str:
    chosen = selected.read_step(subject / stage)
    step = checkpoints.steps(subject / stage)[-1] if chosen is None else chosen
    meta = checkpoints.read_meta(subject / stage, step)
    measured = ", ".join(f"{tag} {value:.4g}" for tag, value in meta["metrics"].items())
    took = f"{minutes[stage]:.1f}" if stage in minutes else "-"
    return f"| {stage} | {meta['config'].get('variant', '-')} | {step} | {took} | {measured or '-'} |"


def _machine() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}, {versions}"
