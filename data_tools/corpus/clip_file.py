"""A clip's file: `clips/NAME.npz`, the arrays of docs/file-formats.md and the moments that readers need before they read any frame."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

FOLDER = "clips"


def clip_path(corpus: Path, name: str) -> Path:
    """Where the clip of that name lies."""
    return corpus / FOLDER / f"{name}.npz"


def write_clip(corpus: Path, name: str, arrays: dict[str, np.ndarray]) -> Path:
    """Writes a clip under a temporary name and renames it.

    Args:
      corpus: the corpus folder.
      name: the clip's name, which may have folders in it.
      arrays: audio_features [2T, C], f0 [2T], motion [T, 204], float; stored as float16, uncompressed (float16 noise hardly compresses, and
        reading is what training does all day), with motion_mean and motion_mean_square [204] float32 over what is stored.
    """
    path = clip_path(corpus, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {key: np.asarray(arrays[key], np.float16) for key in ("audio_features", "f0", "motion")}
    motion = stored["motion"].astype(np.float64)
    moments = {"motion_mean": motion.mean(0).astype(np.float32), "motion_mean_square": np.square(motion).mean(0).astype(np.float32)}
    # The same name every time: what a killed run left is overwritten when the clip is made again.
    temporary = path.with_name(f".{path.name}.tmp.npz")
    try:
        np.savez(temporary, **stored, **moments)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_clip(path: Path) -> dict[str, np.ndarray]:
    """audio_features, f0 and motion of a clip's file, float32."""
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key].astype(np.float32) for key in ("audio_features", "f0", "motion")}
