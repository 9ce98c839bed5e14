"""Weights outside of checkpoints: fingerprints of parameter trees, LPIPS weight files, safetensors files."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError
from data_tools.io import atomic_path
from data_tools.records import ArrayFile

# -------- Fingerprints of parameter trees, by which a network is recognized


def params_fingerprint(tree: Mapping[str, Any]) -> str:
    """16 hex digits of a sha256 over names, shapes and values of a nested dict's arrays.

    It does not depend on the order of names; values enter in half precision, as released checkpoints may store them.
    """
    digest = hashlib.sha256()
    _add(digest, "", tree)
    return digest.hexdigest()[:16]


def head_fingerprint(params: Mapping[str, Any]) -> str:
    """`params_fingerprint` of a head's field, without its condition encoder.

    In GeneFace++ the copy of the head inside a torso checkpoint has another blink size, which changes nothing in the torso's pixels.

    Args:
      params: of a stage "head" or "head_sr".
    """
    field = params.get("head", params)
    return params_fingerprint({name: field[name] for name in ("position_encoder", "sigma_net", "color_net")})


def _add(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value):
            _add(digest, f"{name}/{key}", value[key])
        return
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(value, np.float16)
    digest.update(f"{name} {array.shape}\n".encode())
    digest.update(array.tobytes())


# -------- LPIPS weights: npz files in the user's cache folder, or a given file

LPIPS_NETS = ("alex", "vgg")
_FETCH = "get the weights with `python scripts/fetch_lpips.py`"


def lpips_cache_path(net: str) -> Path:
    """The npz file of a network in `$XDG_CACHE_HOME/geneface_jax` (`~/.cache/geneface_jax`)."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "geneface_jax" / f"lpips_{net}.npz"


def find_lpips(net: str = "alex", source: str | os.PathLike | None = None) -> Path | None:
    """The file that `load_lpips` would read; None if no source is given and the cache has none."""
    if source:
        return Path(source) / f"lpips_{net}.npz" if Path(source).is_dir() else Path(source)
    path = lpips_cache_path(net)
    return path if path.is_file() else None


def load_lpips(net: str = "alex", source: str | os.PathLike | None = None) -> dict[str, Any]:
    """Parameters for `models.lpips`.

    Args:
      net: "alex" or "vgg".
      source: an npz file, or a folder with `lpips_<net>.npz`; None or empty is the user's cache.

    Returns:
      nested dict of float32 arrays.

    Raises:
      InputError: there are no weights, or those of another network.
    """
    if net not in LPIPS_NETS:
        raise InputError(f'LPIPS has the networks "alex" and "vgg", not {net!r}.')
    path = find_lpips(net, source)
    if path is None or not path.is_file():
        raise InputError(f"LPIPS needs its {net} weights and {path or lpips_cache_path(net)} does not exist: {_FETCH}.")
    convolutions = 5 if net == "alex" else 13
    wanted = {f"conv_{i}/{name}" for i in range(convolutions) for name in ("kernel", "bias")} | {f"weights_{i}" for i in range(5)}
    with ArrayFile(path, _FETCH) as archive:
        if set(archive.files) != wanted:
            raise InputError(f"{path} does not hold the {net} weights of LPIPS: {_FETCH}.")
        flat = {name: archive[name].astype(np.float32) for name in archive.files}
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        layer, _, leaf = name.partition("/")
        if leaf:
            tree.setdefault(layer, {})[leaf] = value
        else:
            tree[layer] = value
    return tree


def save_lpips(path: str | os.PathLike, flat: Mapping[str, np.ndarray]) -> Path:
    """Writes parameters (`conv_0/kernel` -> array) as an npz file, atomically; returns its path."""
    arrays: dict[str, Any] = dict(flat)
    with atomic_path(path, ".npz") as temporary:
        np.savez(temporary, **arrays)
    return Path(path)


# -------- Safetensors files: eight bytes of header length, a JSON header with names, types and offsets, then the bytes of the arrays

LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

ALIGNMENT = 8
"""Arrays begin at a multiple of this many bytes, as in files by the format's own writer."""

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads every array of a .safetensors file; nothing in it is executed.

    Returns:
      name -> array in its own dtype (bfloat16 as float32). The arrays are memory-mapped: read from disk when they are used.

    Raises:
      InputError: the file is missing, cut off, or its header doesn't describe its bytes.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            header_size = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 2 <= header_size <= min(LARGEST_HEADER, size - 8):
                raise _damaged(path, f"the header length is {header_size} bytes, the file has {size}")
            header = json.loads(stream.read(header_size).decode("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}: check the folder's name.") from error
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): give the file itself.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    data = np.memmap(path, np.uint8, "r", offset=8 + header_size) if size > 8 + header_size else np.zeros(0, np.uint8)
    return {name: _array(path, name, entry, data) for name, entry in header.items() if name != "__metadata__"}


def _array(path: Path, name: str, entry: Any, data: np.ndarray) -> np.ndarray:
    """One array, after checking that its dtype, shape and offsets agree with each other and with the file."""
    try:
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        start, end = entry["data_offsets"]
        possible = all(type(n) is int and 0 <= n < 2**63 for n in (*shape, start, end)) and len(shape) <= 32
        fits = possible and end - start == math.prod(shape) * dtype.itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{name} has no valid dtype, shape and offsets") from error
    if not fits or end > len(data):
        raise _damaged(path, f"the offsets of {name} are {start} to {end} of {len(data)} bytes for {entry['dtype']} {list(shape)}")
    try:
        array = np.frombuffer(data[start:end], dtype).reshape(shape)
    except (ValueError, OverflowError) as error:  # an empty array whose other sizes are beyond any limit
        raise _damaged(path, f"{name} has the shape {list(shape)}") from error
    return (array.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else array


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is not a complete safetensors file ({why}): download or copy it again.")


def write_safetensors(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    """Writes arrays under their names, atomically.

    Args:
      path: the file to write.
      arrays: name -> array of a dtype of the format (float, bfloat16, int, uint8, bool).
      metadata: strings for the header's `__metadata__`.

    Returns:
      the path.

    Raises:
      ValueError: an array of another dtype, or the reserved name `__metadata__`.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    # Largest dtypes first: every array then begins at a multiple of its item size.
    ordered = sorted(arrays, key=lambda name: (-np.dtype(arrays[name].dtype).itemsize, name))
    position = 0
    for name in ordered:
        array = arrays[name]
        if name == "__metadata__" or array.dtype.name not in _NAMES:
            raise ValueError(f"safetensors can't hold {name} of type {array.dtype}")
        header[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            array = np.ascontiguousarray(arrays[name])
            stream.write((array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes())
    return Path(path)
