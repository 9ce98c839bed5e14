"""Config of a vanilla NeRF small enough to train in a test."""

from __future__ import annotations

from pathlib import Path

from geneface_jax.io import configs

SMALL = [
    "train.log_every=1",
    "train.eval_every=0",
    "train.save_every=0",
    "data.rays=64",
    "data.eval_frames=1",
    "data.eval_size=16",
    "model.hidden=16",
    "model.layers=2",
    "model.skip=0",
    "model.color_hidden=8",
    "model.color_layers=1",
    "model.octaves=6",
    "model.view_octaves=1",
    "model.condition_features=16",
    "rays.samples=6",
    "rays.fine_samples=6",
    "optimizer.lr=0.01",
    "restart.steps=10",
]


def nerf_config(stage: str, dataset: Path, *overrides: str):
    """A reduced demo config of `nerf_head` or `nerf_torso`; a step takes milliseconds."""
    return configs.load(f"{stage}:demo", [*SMALL, f"data.subject={dataset}", *overrides])
