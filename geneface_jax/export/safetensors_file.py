"""Writing .safetensors files: eight bytes of length, a JSON header with names, types and places, then the bytes of the arrays.

The counterpart of `convert.safetensors.read_safetensors`; the format is small enough that no library is needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint8": "U8", "bool": "BOOL",
}  # fmt: skip

ALIGNMENT = 8
"""The arrays begin at a multiple of so many bytes, as the format's own writer does it."""


def write_safetensors(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    """Writes arrays under their names, atomically.

    Args:
      path: the file to write.
      arrays: name -> array of a type that the format knows (float, bfloat16, int, uint8, bool).
      metadata: text the header carries as `__metadata__`.

    Returns:
      the path.

    Raises:
      ValueError: an array of another type (the name is told), or a name the format reserves.
    """
    path = Path(path)
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    # The largest types first: every array then begins at a multiple of its item's size.
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for name in ordered:
                array = np.ascontiguousarray(arrays[name])
                stream.write((array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
