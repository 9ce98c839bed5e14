"""Reading .safetensors files: eight bytes of length, a JSON header with names, types and places, then the bytes of the arrays."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np

from data_tools.errors import InputError

LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads every array of a file; nothing in it is executed.

    Args:
      path: a .safetensors file.

    Returns:
      name -> array in its own dtype (bfloat16 as float32). The arrays are views of the file on disk, read when they are used.

    Raises:
      InputError: the file is missing, cut off, or its header doesn't describe its bytes.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            header_size = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 2 <= header_size <= min(LARGEST_HEADER, size - 8):
                raise _damaged(path, f"its header is said to have {header_size} bytes, the file has {size}")
            header = json.loads(stream.read(header_size).decode("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}: check the folder's name.") from error
    except ValueError as error:
        raise _damaged(path, f"its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no table")
    data = np.memmap(path, np.uint8, "r", offset=8 + header_size) if size > 8 + header_size else np.zeros(0, np.uint8)
    return {name: _array(path, name, entry, data) for name, entry in header.items() if name != "__metadata__"}


def _array(path: Path, name: str, entry: object, data: np.ndarray) -> np.ndarray:
    """One array, after checking that its type, shape and place agree with each other and with the file."""
    try:
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        start, end = entry["data_offsets"]
        fits = all(type(n) is int and n >= 0 for n in (*shape, start, end)) and end - start == math.prod(shape) * dtype.itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{name} has no known dtype, shape and place") from error
    if not fits or end > len(data):
        raise _damaged(path, f"{name} is said to lie at bytes {start} to {end} of {len(data)} as {entry['dtype']} {list(shape)}")
    array = np.frombuffer(data[start:end], dtype).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else array


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is not a whole safetensors file ({why}): download or copy it again.")
