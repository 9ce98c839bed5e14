"""Folders shaped like the originals' releases, written with PyTorch from the recorded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.hubert_folder import recorded, write_hubert
from tests.parity.vectors import VECTORS, read


def settings(folder: str) -> dict[str, Any]:
    """The original's settings that go with a folder of recorded weights."""
    with np.load(VECTORS / folder / "io.npz", allow_pickle=False) as archive:
        meta = json.loads(str(archive["meta_json"]))
    return meta.get("config", meta) if isinstance(meta.get("config", meta), dict) else meta


def weights(*names: str, leave_out: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The union of recorded state dicts; a later one wins."""
    union: dict[str, np.ndarray] = {}
    for name in names:
        union |= read(name)
    return {key: value for key, value in union.items() if key not in leave_out}


def write_checkpoint(torch: Any, folder: Path, step: int, hparams: dict[str, Any], **networks: dict[str, np.ndarray]) -> Path:
    """`model_ckpt_steps_<step>.ckpt` and config.yaml as the originals' trainer leaves them; "__" in a network's name stands for a dot."""
    import yaml

    folder.mkdir(parents=True)
    children: dict[str, dict[str, Any]] = {}
    for name, tensors in networks.items():
        child, _, inner = name.partition("__")
        prefix = inner.replace("__", ".") + "." if inner else ""
        children.setdefault(child, {}).update({f"{prefix}{key}": torch.from_numpy(np.array(value)) for key, value in tensors.items()})
    content = {
        "epoch": 0,
        "global_step": step,
        "checkpoint_callback_best": None,
        "optimizer_states": [{"param_groups": [{"lr": np.float64(5e-4)}]}],
        "state_dict": children,
    }
    torch.save(content, folder / f"model_ckpt_steps_{step}.ckpt", _use_new_zipfile_serialization=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(hparams), encoding="utf-8")
    return folder


def write_large_hubert(folder: Path) -> Path:
    """A random HuBERT with the 1024 channels of the large one and almost nothing else of it."""
    record = recorded("large")
    rng = np.random.default_rng(0)
    wide = {}
    for name, value in record.weights.items():
        if ".layers.1." in name:
            continue
        shape = tuple(1024 if length == 32 else length for length in value.shape)
        wide[name] = (value.mean() + value.std() * rng.normal(size=shape)).astype(np.float32) if shape != value.shape else value
    return write_hubert(folder, "large", wide, hidden_size=1024, num_hidden_layers=1, num_conv_pos_embedding_groups=128)
