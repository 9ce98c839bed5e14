"""A person as plain files for other programs: weights, config, card, and the render step. Nothing in them runs code when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.errors import InputError
from data_tools.io import write_folder, write_text
from geneface_jax.export.readme import readme
from geneface_jax.export.render_step import PLATFORMS, RenderStep, flat, make_render_step
from geneface_jax.inference.renderer import SubjectRenderer, open_renderer
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import find_parts
from geneface_jax.io.weights import write_safetensors

FORMAT, FORMAT_VERSION = "geneface_jax.export", 1
WEIGHTS, STEP, STAGES = "render.safetensors", "render.jaxexport", "stages.safetensors"
END_THRESHOLD = 0.01
"""The default of `geneface infer --end-threshold`."""

ARRAYS = ("motion_mean", "motion_std", "mean_face", "cameras", "eye_openness")
"""Of the dataset: what another program needs to drive the face."""


def export_subject(
    subject_dir: str | os.PathLike,
    out: str | os.PathLike,
    *,
    platforms: Sequence[str] = PLATFORMS,
    end_threshold: float = END_THRESHOLD,
) -> Path:
    """Writes a folder with

    - `render.safetensors`: the weights of head and torso and what else the render step takes as its first argument;
    - `render.jaxexport`: the render step, serialised by `jax.export`;
    - `stages.safetensors`: everything learnt by every stage (`postnet/params/...`), and of the dataset the arrays of `ARRAYS`;
    - `config.json`: sizes, inputs of the step, the configs of the stages, sha256 of the files; `background.png`; `card.md`; `README.md`.

    Args:
      subject_dir: a subject folder with at least a head.
      out: the folder to make; an earlier one is replaced when it is whole.
      platforms: what the step is lowered for.
      end_threshold: transmittance that ends a ray, fixed in the step.

    Returns:
      the folder.

    Raises:
      InputError: no head, the vanilla NeRF (whose frames no single step makes), or a platform jax does not know.
    """
    subject_dir, out = Path(subject_dir), Path(out)
    if out.exists() and not (out / "config.json").is_file():
        raise InputError(f"{out} exists and is no earlier export: name another --out, or remove it.")
    parts = find_parts(subject_dir, need_torso=False, need_speech=False)
    renderer = open_renderer(parts)
    if not isinstance(renderer, SubjectRenderer):
        raise InputError(f"{subject_dir} holds {parts}: export is for the stages head and head_sr; render with `geneface infer` instead.")
    step = make_render_step(renderer, end_threshold)

    def fill(folder: Path) -> None:
        write_safetensors(folder / WEIGHTS, step.weights)
        (folder / STEP).write_bytes(step.serialise(platforms))
        arrays = {f"dataset/{name}": np.asarray(getattr(renderer.subject, name)) for name in ARRAYS}
        records = {}
        for stage in parts.stages:
            checkpoint = checkpoints.load(subject_dir / stage, checkpoints.read_selected_step(subject_dir / stage))
            arrays |= flat(stage, checkpoint.state)
            config = checkpoints.without_folders(configs.to_json(checkpoint.config))
            records[stage] = {"step": checkpoint.step, "config": config}
        write_safetensors(folder / STAGES, arrays)
        shutil.copyfile(renderer.subject.folder / "background.png", folder / "background.png")
        card = subject_dir / "card.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else f"# {renderer.subject.name}\n\nThe subject folder holds no card.\n"
        write_text(folder / "card.md", text)
        record = _record(renderer, step, platforms, end_threshold, records)
        record["files"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
        write_text(folder / "README.md", readme(record))
        write_text(folder / "config.json", json.dumps(record, indent=1) + "\n")

    return write_folder(out, fill)


def _record(renderer: SubjectRenderer, step: RenderStep, platforms: Sequence[str], end_threshold: float, stages: dict) -> dict[str, Any]:
    subject = renderer.subject
    inputs = {
        name: {"shape": list(shape.shape), "dtype": np.dtype(shape.dtype).name, "meaning": meaning}
        for name, (shape, meaning) in step.inputs.items()
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": subject.name,
        "size": subject.size,
        "fps": subject.fps,
        "n_train": subject.n_train,
        "intrinsics": subject.intrinsics._asdict(),
        "face_model": subject.face_model,
        "audio_model": subject.audio_model,
        "render_step": {
            "file": STEP,
            "weights": WEIGHTS,
            "inputs": inputs,
            "output": {"shape": [subject.size, subject.size, 3], "dtype": "uint8"},
            "end_threshold": end_threshold,
            "platforms": list(platforms),
            "jax": jax.__version__,
        },
        "stages": stages,
    }
