"""The recorded tiny HuBERTs (tests/geneface_jax/models/record_hubert.py), also as Hugging Face folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VARIANTS = ("large", "base")
RECORD = Path(__file__).parent / "geneface_jax" / "models" / "hubert.npz"


class Recorded(NamedTuple):
    """Config, weights, samples before and after normalization by transformers, and the last hidden state [A, C]."""

    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    raw: np.ndarray
    samples: np.ndarray
    hidden: np.ndarray


def recorded(variant: str) -> Recorded:
    """One of `VARIANTS`."""
    with np.load(RECORD, allow_pickle=False) as archive:
        arrays = {name.removeprefix(f"{variant}/"): archive[name] for name in archive.files if name.startswith(f"{variant}/")}
    weights = {name.removeprefix("weights/"): value.astype(np.float32) for name, value in arrays.items() if name.startswith("weights/")}
    return Recorded(json.loads(str(arrays["config"])), weights, arrays["raw"], arrays["samples"], arrays["hidden"])


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, np.ndarray]]) -> Path:
    """Writes {name: (dtype name, array with these bytes)} in the layout of the safetensors library."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, value) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [len(data), len(data) + value.nbytes]}
        data += value.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_hubert(folder: Path, variant: str = "large", weights: Mapping[str, np.ndarray] | None = None, **config: Any) -> Path:
    """Writes a model folder; `weights` replace the recorded ones, `config` overrides the recorded config."""
    record = recorded(variant)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**record.config, **config}))
    weights = record.weights if weights is None else weights
    write_safetensors(folder / "model.safetensors", {name: ("F32", value) for name, value in weights.items()})
    return folder
