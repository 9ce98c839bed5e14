"""Audio features kept by the content they were made from, so that HuBERT listens to a recording once.

The key is a hash of the samples, of the number of frames, and of all that the numbers depend on (`AudioFeatures.recipe`): another trim,
another network or an edited file never finds the wrong ones. Files lie in `$XDG_CACHE_HOME/geneface_jax/features` (`~/.cache/...`); the
folder may be deleted at any time. `GENEFACE_FEATURE_CACHE=off` keeps nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np

from data_tools.audio.features import AudioFeatures

VERSION = 1
"""Raised when a feature's code changes its numbers."""

MAX_BYTES = 2 * 1024**3
"""The oldest files go when the folder grows beyond this: an hour of HuBERT features is 0.7 GB."""


def cache_folder() -> Path:
    """Where the files lie."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "geneface_jax" / "features"


def cached(audio: AudioFeatures) -> AudioFeatures:
    """The same features, which look for an earlier result before they compute one and keep what they computed."""
    if os.environ.get("GENEFACE_FEATURE_CACHE") == "off":
        return audio

    def compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        path = cache_folder() / f"{content_key(audio, samples, n_frames)}.npz"
        if (kept := _read(path)) is not None:
            return kept
        features, f0 = audio.compute(samples, n_frames)
        features, f0 = features.astype(np.float32), f0.astype(np.float32)
        # A full or read-only home is no reason to fail: the features are there.
        with contextlib.suppress(OSError):
            _write(path, features, f0)
            _prune(path.parent)
        return features, f0

    return dataclasses.replace(audio, compute=compute)


def content_key(audio: AudioFeatures, samples: np.ndarray, n_frames: int) -> str:
    """32 hex digits that name a result."""
    digest = hashlib.sha256(f"{VERSION}\0{audio.recipe}\0{n_frames}\0".encode())
    digest.update(np.ascontiguousarray(samples, np.float32).tobytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["features"], archive["f0"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, features: np.ndarray, f0: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez(temporary, features=features, f0=f0)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Removes the files written longest ago until the rest is small enough."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
