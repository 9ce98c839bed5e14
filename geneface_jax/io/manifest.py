"""What a folder held when it was whole: sizes and checksums of its files, so that damage is seen before it is believed."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from data_tools.errors import InputError
from geneface_jax.io import files

MANIFEST = "manifest.json"
IGNORED = frozenset({MANIFEST, "commit_success.txt"})
"""Names that say nothing about the content: this file, and orbax's note of where it wrote."""
_CHUNK = 1 << 20
_SYNCS = os.name == "posix"
"""Windows syncs neither folders nor files that are open for reading."""


def write(folder: Path) -> None:
    """Writes `folder/manifest.json` over all files below `folder`, once each of them is on the disk itself (fsync)."""
    content = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in IGNORED:
            content[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "crc32": _checksum(path, sync=True)}
    files.write_json(folder / MANIFEST, {"files": content})
    for path in (folder / MANIFEST, folder) if _SYNCS else ():
        _sync(path)


def damage(folder: Path) -> str | None:
    """What is wrong with `folder`, as half a sentence; None when it is as its manifest says, or has none (made before there were any)."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        content = files.read_json(folder / MANIFEST)["files"]
    except (InputError, KeyError, TypeError):
        return f"its {MANIFEST} can't be read"
    for name, wanted in content.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != wanted["bytes"]:
            return f"{name} has {path.stat().st_size} bytes of {wanted['bytes']}"
        if _checksum(path) != wanted["crc32"]:
            return f"{name} doesn't hold the bytes that were written"
    return None


def _checksum(path: Path, sync: bool = False) -> int:
    value = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
        if sync and _SYNCS:
            os.fsync(stream.fileno())
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
