"""Reading of files that may be damaged or a stranger's: JSON records with checksums and checked fields, and arrays of known size."""

import contextlib
import dataclasses
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Any

import numpy as np

from data_tools.errors import InputError

# -------- JSON: bounded in bytes and in depth, with a checksum

CHECKSUM = "checksum"
"""Key of a record's checksum: the CRC-32 of its other keys, as eight hex digits."""

LARGEST_JSON = 64 << 20
"""Bytes; parsed JSON takes up to thirty times as much memory."""

DEEPEST = 60
"""Levels of nesting. Python's recursion limit lies near 1000, and readers of the value recurse too."""

_AGAIN = "delete it and make it again"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with its checksum, which `read_json` compares."""
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    return {**content, CHECKSUM: _checksum(content)}


def _checksum(content: Mapping[str, Any]) -> str:
    # Read back first: what is compared later has passed through JSON, which turns tuples into lists and keys into text.
    plain = json.loads(json.dumps(content))
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True, separators=(',', ':')).encode()):08x}"


def _checksum_key(record: Mapping[str, Any]) -> str | None:
    """The key of the checksum, or what a damaged bit made of it: it is the last one, and no other record ends in eight hex digits."""
    last = next(reversed(record), None)
    is_hex = last is not None and isinstance(record[last], str) and re.fullmatch("[0-9a-f]{8}", record[last])
    return CHECKSUM if CHECKSUM in record else last if is_hex else None


def read_json(path: str | os.PathLike, remedy: str = _AGAIN, *, largest: int = LARGEST_JSON) -> Any:
    """Reads a JSON file; if it is a record with a checksum, the checksum is compared and left out.

    Args:
      path: the file.
      remedy: the way out, for the sentence about a damaged file.
      largest: bytes that the file may have.

    Raises:
      InputError: the file is missing, too large, not JSON, nested too deeply, or doesn't agree with its checksum.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(largest + 1)
        if len(data) > largest:
            raise InputError(f"{path} has more than {largest >> 20} MiB, so it isn't one of our JSON files: {remedy}.")
        value = json.loads(data.decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} doesn't exist: check the folder's name.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} isn't a JSON file ({error}): {remedy}.") from error
    if not _is_shallow(value):
        raise InputError(f"{path} is nested more than {DEEPEST} levels deep: {remedy}.")
    if isinstance(value, dict) and (name := _checksum_key(value)):
        stated = value.pop(name)
        if name != CHECKSUM or stated != _checksum(value):
            raise InputError(
                f'{path} doesn\'t hold what was written (its checksum differs): {remedy}; if you changed it by hand, remove "{CHECKSUM}".'
            )
    return value


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _children(outer) if isinstance(inner, dict | list)]
        if not level:
            return True
    return False


def _children(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


# -------- Checked fields


@dataclasses.dataclass(frozen=True)
class Field:
    """What a field of a record may hold.

    Attributes:
      kind: `int` (a whole number), `float` (any number), `str`, `bool`, `list` or `dict`.
      low, high: range of a number, or of the length of text, a list or a dict.
      choices: the values that are allowed; empty allows all.
      pattern: what text must match completely.
      optional: the field may be missing or null.
    """

    kind: type
    low: float = -math.inf
    high: float = math.inf
    choices: Collection[Any] = ()
    pattern: re.Pattern[str] | None = None
    optional: bool = False

    def accepts(self, value: Any) -> bool:
        """Whether the field may hold `value`. Numbers are finite; a truth value is no number."""
        if value is None:
            return self.optional
        if type(value) is not self.kind and not (self.kind is float and type(value) is int):
            return False
        if isinstance(value, int) and value.bit_length() > 1000:  # no float holds it
            return False
        measure = value if isinstance(value, int | float) else len(value)
        if not (self.low <= measure <= self.high) or (isinstance(value, float) and not math.isfinite(value)):
            return False
        return (not self.choices or value in self.choices) and (self.pattern is None or self.pattern.fullmatch(value) is not None)

    def __str__(self) -> str:
        if self.choices:
            return " or ".join(map(repr, sorted(self.choices)))
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list", dict: "an object"}
        limits = ""
        if math.isfinite(self.low) and math.isfinite(self.high):
            limits = f" from {self.low:g} to {self.high:g}" if self.kind in (int, float) else f" of {self.low:g} to {self.high:g}"
        elif math.isfinite(self.low):
            limits = f" of at least {self.low:g}"
        return names[self.kind] + limits


def check_fields(record: Any, where: str | os.PathLike, fields: Mapping[str, Field], remedy: str = _AGAIN) -> dict[str, Any]:
    """Checks the fields of a record; other fields may be there too.

    Args:
      record: as it was read.
      where: its file, for the error.
      fields: name -> what it may hold.
      remedy: the way out.

    Returns:
      `record`.

    Raises:
      InputError: it is no record, or a field is missing or holds something else; names the field and what it may hold.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where} holds no record of named fields: {remedy}.")
    for name, field in fields.items():
        if not field.accepts(record.get(name)):
            found = f"is {short(record[name])}, not {field}" if name in record else f"is missing; it is {field}"
            raise InputError(f'The field "{name}" of {where} {found}: {remedy}.')
    return record


def short(value: Any) -> str:
    """A value as part of a sentence: at most sixty characters."""
    if isinstance(value, dict | list):
        return f"a {'list' if isinstance(value, list) else 'record'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_record(path: str | os.PathLike, fields: Mapping[str, Field], remedy: str = _AGAIN) -> dict[str, Any]:
    """`read_json`, then `check_fields`; raises as both."""
    return check_fields(read_json(path, remedy), path, fields, remedy)


def stays_inside(name: Any) -> bool:
    """Whether a relative name from a file (`a/b.npz`) leads to a place below the folder that it is relative to, on every system."""
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or path == PurePosixPath("."))


# -------- Arrays: npz archives and npy files without pickles


class ArrayFile:
    """An npz archive that is open for reading: a context manager whose `archive[name]` reads an array.

    The size of an array is compared with the bytes that are there before memory is taken for it, and its content with its CRC-32, which zip
    archives have.

    Args of the constructor:
      path: the archive.
      remedy: the way out, for the sentence about a damaged file.

    Attributes:
      files: names of its arrays.

    Raises (every method):
      InputError: the file is missing, damaged, or holds something else than plain arrays.
    """

    def __init__(self, path: str | os.PathLike, remedy: str = _AGAIN):
        self._path, self._remedy = Path(path), remedy
        with self._damage():
            self._zip = zipfile.ZipFile(self._path)
            _check_count(self._path, len(self._zip.infolist()))
        self.files = [name.removesuffix(".npy") for name in self._zip.namelist()]

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    def kind(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of an array, from its header."""
        with self._damage():
            info = self._info(name)
            with self._zip.open(info) as stream:
                return _read_header(stream, info.file_size)

    def __getitem__(self, name: str) -> np.ndarray:
        self.kind(name)
        with self._damage(), self._zip.open(self._info(name)) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def _info(self, name: str) -> zipfile.ZipInfo:
        names = self._zip.NameToInfo
        if (info := names.get(f"{name}.npy") or names.get(name)) is None:
            raise InputError(f'The array "{name}" is missing from {self._path}: {self._remedy}.')
        return info

    def _damage(self) -> contextlib.AbstractContextManager[None]:
        return _damage(self._path, self._remedy)


def _check_count(path: Path, count: int) -> None:
    """Compares the archive's list of contents with the number of entries that it says to have, which Python's reader doesn't."""
    with path.open("rb") as stream:
        stream.seek(-22, os.SEEK_END)
        end = stream.read(22)
    stated = int.from_bytes(end[10:12], "little")
    # An archive that ends in a comment, or has more entries than 16 bits can count, says it elsewhere; numpy's have no comment.
    if not count or (end[:4] == b"PK\5\6" and stated not in (count, 0xFFFF)):
        raise ValueError(f"{count} entries of {stated}")


@contextlib.contextmanager
def _damage(path: Path, remedy: str) -> Iterator[None]:
    """Turns whatever the readers of zip and npy raise about a damaged file into the sentence."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: {remedy}.") from error
    except Exception as error:  # zipfile, zlib, lzma and numpy raise a dozen kinds
        raise InputError(f"{path} is damaged or not a plain array file: {remedy}.") from error


def _read_header(stream: Any, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the npy file of `size` bytes that begins here. Raises ValueError if it doesn't have that many."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"arrays of {dtype}")
    if any(n < 0 for n in shape) or stream.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{size} bytes for {dtype} {shape}")
    return shape, dtype


def read_npz(path: str | os.PathLike, remedy: str = _AGAIN, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file (all of them, or those in `names`); raises as `ArrayFile`."""
    with ArrayFile(path, remedy) as archive:
        return {name: archive[name] for name in (archive.files if names is None else names)}


def read_npy(path: str | os.PathLike, remedy: str = _AGAIN) -> np.ndarray:
    """The array of an npy file; raises as `ArrayFile`."""
    path = Path(path)
    with _damage(path, remedy), path.open("rb") as stream:
        _read_header(stream, path.stat().st_size)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
