"""Where the weights of LPIPS lie: array files in the user's cache folder, or a file that is named."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError

NETS = ("alex", "vgg")
_FETCH = "get the weights with `python scripts/fetch_lpips.py`"


def cache_path(net: str) -> Path:
    """The array file of a network in `$XDG_CACHE_HOME/geneface_jax` (`~/.cache/geneface_jax`)."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "geneface_jax" / f"lpips_{net}.npz"


def find(net: str = "alex", source: str | os.PathLike | None = None) -> Path | None:
    """The file that `load` would read, or None when nothing is named and nothing was fetched."""
    if source:
        return Path(source) / f"lpips_{net}.npz" if Path(source).is_dir() else Path(source)
    path = cache_path(net)
    return path if path.is_file() else None


def load(net: str = "alex", source: str | os.PathLike | None = None) -> dict[str, Any]:
    """Parameters for `models.lpips`.

    Args:
      net: "alex" or "vgg".
      source: an array file, or a folder with `lpips_<net>.npz`; the user's cache when None or empty.

    Returns:
      nested dict of float32 arrays.

    Raises:
      InputError: no weights there, or not those of this network.
    """
    if net not in NETS:
        raise InputError(f'LPIPS has the networks "alex" and "vgg", not {net!r}.')
    path = find(net, source)
    if path is None or not path.is_file():
        raise InputError(f"LPIPS needs its {net} weights and {path or cache_path(net)} does not exist: {_FETCH}.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            flat = {name: archive[name].astype(np.float32) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged or not a plain array file: {_FETCH}.") from error
    convolutions = 5 if net == "alex" else 13
    wanted = {f"conv_{i}/{name}" for i in range(convolutions) for name in ("kernel", "bias")} | {f"weights_{i}" for i in range(5)}
    if set(flat) != wanted:
        raise InputError(f"{path} does not hold the {net} weights of LPIPS: {_FETCH}.")
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        layer, _, leaf = name.partition("/")
        if leaf:
            tree.setdefault(layer, {})[leaf] = value
        else:
            tree[layer] = value
    return tree


def save(path: str | os.PathLike, flat: Mapping[str, np.ndarray]) -> Path:
    """Writes parameters (`conv_0/kernel` -> array) as an array file, atomically; returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial.npz")
    try:
        arrays: dict[str, Any] = dict(flat)
        np.savez(temporary, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
