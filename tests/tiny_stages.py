"""Every stage at a size at which a step takes milliseconds, on synthetic data; stages that another one needs are made untrained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from geneface_jax.io import checkpoints, configs
from geneface_jax.training.stage import Stage, get_stage
from tests.synthetic_corpus import write_corpus, write_speaker

VAE = ["model.condition=8", "model.hidden=8", "model.encoder_layers=1", "model.decoder_layers=1", "model.flow_blocks=1"]
GRID = ["levels=4", "base_resolution=4", "finest_resolution=32", "log2_table_size=8"]
FIELD = [
    *(f"model.{grid}.{field}" for grid in ("position_grid", "ambient_grid") for field in GRID),
    *("model.hidden=16", "model.hidden_color=16", "model.geometry_features=8", "march.grid_resolution=16", "march.budget=12.0"),
    *("data.groups=8", "data.rays=64", "data.eval_frames=1"),
]
VANILLA = [
    *("data.rays=64", "data.eval_frames=1", "data.eval_size=16", "model.hidden=8", "model.color_hidden=8"),
    *("model.condition_features=8", "rays.samples=4", "rays.fine_samples=4"),
]
SPEECH = ["data.batch=8", "data.window=16", "loss.sync_clips=8"]
OVERRIDES = {
    "syncnet": ["data.batch=32", "data.eval_clips=64", "model.base=8"],
    "audio2motion": [*SPEECH, "loss.sync_gate=9.0", *VAE],
    "audio2motion_pitch": [*SPEECH, "loss.sync_gate=9.0", "model.pitch=4", *VAE],
    "audio2motion_live": ["data.batch=8", "data.window=16", "model.condition=8", "model.hidden=8", "model.layers=1"],
    "postnet": [*SPEECH, "data.person_batch=8", "model.base=8", "finetune_audio2motion.steps=10"],
    "head": FIELD,
    "torso": [*(f"model.grid.{field}" for field in GRID), "data.groups=8", "data.rays=64", "data.eval_frames=1"],
    "head_sr": [*FIELD, "super_resolution.size=16", "super_resolution.features=(4, 4)", "perceptual.lip_side=16"],
    "torso_sr": [*(f"model.grid.{field}" for field in GRID), "data.groups=8", "data.eval_frames=1"],
    "nerf_head": VANILLA,
    "nerf_torso": VANILLA,
}
"""Config -> overrides that make it small. A batch of every stage can be split over eight devices."""

NEEDS = {
    "audio2motion": ("syncnet",),
    "audio2motion_pitch": ("syncnet",),
    "postnet": ("syncnet", "audio2motion"),
    "torso": ("head",),
    "head_sr": ("head",),
    "torso_sr": ("head", "head_sr"),
    "nerf_torso": ("nerf_head",),
}


def known_to(config: str, texts: Iterable[str]) -> list[str]:
    """The `key=value` texts whose key exists in `config` ("stage:variant")."""
    known = set(configs.keys(configs.load(config)))
    return [text for text in texts if text.split("=")[0] in known]


def write_data(folder: Path) -> Path:
    """Writes `folder/corpus` and `folder/dataset`, a person whose motion follows its speech; returns `folder`."""
    write_corpus(folder / "corpus")
    write_speaker(folder / "dataset")
    return folder


def tiny_config(name: str, folder: Path, *overrides: str) -> ConfigDict:
    """The config of `configs/<name>.py:demo`, small; stages that it needs are made first, untrained, in `folder/<stage>`."""
    for other in NEEDS.get(name, ()):
        if not checkpoints.steps(folder / other):
            stage = tiny_stage(other, folder)
            state = jax.device_get(stage.init(jax.random.key(0)))
            if "occupancy" in state:  # every cell that the masks left is dense, as after some training
                state["occupancy"] = {"grid": np.where(state["occupancy"]["grid"] < 0, -1.0, 1e3).astype(np.float32)}
            checkpoints.save(folder / other, 1, state, {"config": stage.config})
    sources = {
        "data.subject": folder / "dataset",
        "data.corpus": folder / "corpus",
        "data.syncnet": folder / "syncnet",
        "data.audio2motion": folder / "audio2motion",
        "data.head": folder / {"nerf_torso": "nerf_head", "torso_sr": "head_sr"}.get(name, "head"),
    }
    wanted = [*(f"{key}={path}" for key, path in sources.items()), *OVERRIDES[name], *overrides]
    return configs.load(f"{name}:demo", known_to(f"{name}:demo", wanted))


def tiny_stage(name: str, folder: Path, *overrides: str) -> Stage:
    """The stage of `tiny_config`."""
    return get_stage(tiny_config(name, folder, *overrides))
