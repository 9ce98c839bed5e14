"""A tiny synthetic subject dataset: a colored disc for a head over a striped background, a blue bar for a torso."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.landmarks68 import mean_face


def write_subject(dataset: Path, *, frames: int = 22, size: int = 32, seed: int = 0, audio_model: str = "mel_f0") -> Path:
    """Writes a dataset folder as docs/file-formats.md describes it; returns it."""
    for name in ("frames", "head", "torso"):
        (dataset / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    focal = 1015.0 / 112.0 * size / 2.0
    cameras = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    cameras[:, 2, 3] = 1.3
    cameras[:, 0, 3] = 0.02 * np.sin(np.arange(frames) / 3.0)
    background = np.full((size, size, 3), 90, np.uint8)
    background[:, ::4] = 140
    Image.fromarray(background).save(dataset / "background.png")
    row, column = np.mgrid[:size, :size]
    shade = np.stack([120 + 2 * column, 60 + 3 * row, np.full_like(row, 80)], axis=-1).clip(0, 255).astype(np.uint8)
    torso = np.zeros((size, size, 4), np.uint8)
    torso[size * 3 // 4 :, size // 6 : -size // 6] = (30, 40, 160, 255)
    boxes = np.zeros((frames, 4), np.int32)
    for i in range(frames):
        center = size / 2 - focal * cameras[i, 0, 3] / 1.3
        head = (column + 0.5 - center) ** 2 + (row + 0.5 - size / 2) ** 2 < (0.3 * size) ** 2
        frame = np.where(torso[..., 3:] > 0, torso[..., :3], background)
        frame[head] = shade[head]
        Image.fromarray(frame).save(dataset / "frames" / f"{i:06d}.jpg", quality=98, subsampling=0)
        Image.fromarray((head * 255).astype(np.uint8)).save(dataset / "head" / f"{i:06d}.png")
        Image.fromarray(torso).save(dataset / "torso" / f"{i:06d}.png")
        boxes[i] = [size // 4, size // 4, 3 * size // 4, 3 * size // 4]
    motion = rng.normal(size=(frames, 68, 3)).astype(np.float32)
    n_train = frames * 10 // 11
    np.savez(
        dataset / "arrays.npz",
        audio_features=rng.normal(size=(2 * frames, 80 if audio_model == "mel_f0" else 128)).astype(np.float32),
        f0=np.zeros(2 * frames, np.float32),
        motion=motion,
        motion_mean=motion[:n_train].mean(0),
        motion_std=motion[:n_train].std(0),
        mean_face=mean_face(),
        landmarks_2d=np.zeros((frames, 68, 2), np.float32),
        landmarks_mediapipe=np.zeros((frames, 478, 3), np.float32),
        cameras=cameras,
        eye_openness=np.full(frames, 0.3, np.float32),
        face_box=boxes,
        lip_box=boxes,
        interpolated=np.zeros(frames, bool),
    )
    meta = {
        "format": "geneface_jax.subject",
        "format_version": 1,
        "name": "synthetic",
        "fps": 25,
        "size": size,
        "n_frames": frames,
        "n_train": n_train,
        "intrinsics": {"fx": focal, "fy": focal, "cx": size / 2, "cy": size / 2},
        "face_model": "mediapipe",
        "audio_model": audio_model,
        "crop": {"x": 0, "y": 0, "size": size, "source_width": size, "source_height": size},
        "source": {"file": "synthetic", "sha256": "", "fps": 25, "changes": []},
        "consent": None,
        "tools": {},
    }
    (dataset / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return dataset


def tiny_field_config(config, dataset: Path):
    """Shrinks a head or torso config so that a step takes milliseconds."""
    config.data.subject = str(dataset)
    if "ema" in config.optimizer:
        config.optimizer.ema = 0.0  # an average over a hundred updates says nothing of a run of twenty
    config.data.update({"groups": 8, "rays": 64, "eval_frames": 1})
    config.train.update({"steps": 60, "log_every": 10, "eval_every": 60, "save_every": 30})
    grids = [config.model[name] for name in ("position_grid", "ambient_grid", "grid") if name in config.model]
    for grid in grids:
        grid.update({"levels": 4, "base_resolution": 4, "finest_resolution": 32, "log2_table_size": 8})
    if "hidden" in config.model and "geometry_features" in config.model:
        config.model.update({"hidden": 16, "hidden_color": 16, "geometry_features": 8, "condition_features": 16})
        config.march.update({"grid_resolution": 16, "budget": 12.0})
    return config
