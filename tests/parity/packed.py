"""Reading recorded arrays: plain `.npz` files, and ones whose arrays are compressed together (half the size where there are many)."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an npz file (no pickles).

    A packed file has one entry, `packed`: the bytes of an xz stream with the length of an index (4 bytes, little endian), the index (JSON:
    [key, dtype, shape] for each array) and the arrays' bytes, one after the other.
    """
    with np.load(path, allow_pickle=False) as archive:
        if archive.files != ["packed"]:
            return {key: archive[key] for key in archive.files}
        data = lzma.decompress(archive["packed"].tobytes())
    start = 4 + int.from_bytes(data[:4], "little")
    arrays = {}
    for key, dtype, shape in json.loads(data[4:start]):
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        arrays[key] = np.frombuffer(data[start : start + size], dtype).reshape(shape).copy()
        start += size
    return arrays


def write_packed(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a packed file for `read_npz`."""
    index = [[key, np.asarray(value).dtype.str, list(np.shape(value))] for key, value in arrays.items()]
    head = json.dumps(index, separators=(",", ":")).encode()
    data = b"".join([len(head).to_bytes(4, "little"), head, *(np.asarray(value).tobytes() for value in arrays.values())])
    np.savez(path, packed=np.frombuffer(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME), np.uint8))
