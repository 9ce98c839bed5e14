"""Safe reading of `numpy.save(file, {...})` from untrusted sources.

Such a file is a pickle, and loading a pickle can execute arbitrary code. The unpickler here builds only numbers, text, lists, dicts and
plain arrays. The only globals it resolves are those of numpy arrays, and they resolve to stand-ins of this module that validate their
arguments (numpy's own classes would accept a forged dtype). Every other global is refused before anything is called.

A small pickle can also ask for any amount of memory or time: containers that share their parts, and are therefore far larger when they are
written out, keys that take for ever to hash, or a memo of a billion places. What is built here is bounded in all of these.
"""

import io
import math
import os
import pickle
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np

from data_tools.errors import InputError

_NUMERIC_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_OBJECT = "O"

MOST_ITEMS = 10_000_000
"""Items of all lists and dicts, those in shared parts counted as often as they are met. Ten hours of video have five million."""

DEEPEST = 100
"""Levels of nesting."""


def load(path: str | Path) -> Any:
    """Reads an `.npy` file: an array of numbers as an array, a pickled object as dicts, lists, numbers, text and arrays of numbers.

    Raises:
      InputError: no such file, a damaged one, or one with other objects.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the name.") from error
    except Refused as error:
        raise InputError(f"{path} was not opened because it contains {error}, which is unsafe: use another file.") from error
    except Exception as error:  # an untrusted file can make the reader fail in any way; to the user all mean a damaged file
        raise InputError(f"{path} is damaged or not a file of numpy.save: create or copy it again.") from error


def loads(pickled: bytes) -> Any:
    """The object of a pickle, built as in `load`.

    Raises:
      UnpicklingError: it contains other objects.
    """
    return _plain(_Restricted(io.BytesIO(pickled)).load())


class Refused(UnpicklingError):
    """An object that is not allowed; the message names it."""


class _Dtype:
    """Stand-in for numpy.dtype: a name such as "f4", then a state of which only the byte order is used."""

    def __init__(self, name: Any = "", *flags: Any):
        if not isinstance(name, str) or not (name == _OBJECT or name == "O8" or _NUMERIC_DTYPE.fullmatch(name)):
            raise Refused(f"arrays of {name!r}")
        self.name = _OBJECT if name.startswith(_OBJECT) else name

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        if self.name != _OBJECT and order in ("<", ">"):
            self.name = order + self.name.lstrip("<>|=")

    def real(self) -> np.dtype:
        return np.dtype(self.name)


class _Array:
    """Stand-in for numpy.ndarray: created empty, then filled by a state (version, shape, dtype, Fortran order, data)."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        shape, kind, fortran, data = state[-4:]
        if not (isinstance(kind, _Dtype) and isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
            raise Refused("an array without shape or type")
        if kind.name == _OBJECT:
            if not isinstance(data, list) or len(data) != math.prod(shape):
                raise Refused("an object array of the wrong length")
            self.value = data[0] if shape == () else data
        else:
            # Not copied: the same bytes, a few in the file, could serve for many arrays.
            self.value = np.frombuffer(data, kind.real()).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array:
        raise Refused("a subclass of arrays")
    return _Array()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((shape, kind, order == "F", data))
    return array


def _scalar(kind: Any, data: Any = b"") -> Any:
    if not isinstance(kind, _Dtype) or kind.name == _OBJECT:
        raise Refused("a scalar of an unknown type")
    return np.frombuffer(data, kind.real())[0].item()


_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED_GLOBALS |= {(f"{_core}.multiarray", "_reconstruct"): _reconstruct, (f"{_core}.multiarray", "scalar"): _scalar}
    _ALLOWED_GLOBALS |= {(f"{_core}.numeric", "_frombuffer"): _from_buffer}


_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]


class Bounded(_InPython):
    """Python's own unpickler in Python: its memo is a dict, so that a forged index takes no memory. Keys are plain values.

    Subclasses define `find_class` and `persistent_load`.
    """

    dispatch = dict(_InPython.dispatch)

    def _setitem(self) -> None:
        require_plain_keys(self.stack[-2:-1])
        super().load_setitem()

    def _setitems(self) -> None:
        require_plain_keys(self.stack[::2])
        super().load_setitems()

    def _dict(self) -> None:
        require_plain_keys(self.stack[::2])
        super().load_dict()

    def _set(self) -> None:
        raise Refused("a set")

    def _build(self) -> None:
        if not hasattr(type(self.stack[-2]), "__setstate__"):  # attributes of the stand-ins' functions could be overwritten
            raise Refused(f"a state for a {type(self.stack[-2]).__name__}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.SETITEM[0]], dispatch[pickle.SETITEMS[0]], dispatch[pickle.DICT[0]] = _setitem, _setitems, _dict
    for _code in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET):
        dispatch[_code[0]] = _set


def require_plain_keys(keys: list[Any]) -> None:
    """Raises UnpicklingError for keys of a dict that are no text or number: a tuple of shared tuples takes for ever to hash."""
    for key in keys:
        if not (key is None or isinstance(key, bool | int | float | str | bytes)):
            raise Refused(f"a {type(key).__name__} as a key")


class _Restricted(Bounded):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise Refused(f"{module}.{name}")
        return _ALLOWED_GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("an object outside the file")


def _read(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.hasobject:
        return _plain(_Restricted(file).load())
    if dtype.fields is not None or not _NUMERIC_DTYPE.fullmatch(dtype.str):
        raise Refused(f"arrays of {dtype}")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > os.fstat(file.fileno()).st_size:
        raise ValueError(f"{dtype} {shape}")
    return np.frombuffer(file.read(size), dtype).reshape(shape, order="F" if fortran else "C")


def _plain(value: Any) -> Any:
    """The object with stand-ins replaced by arrays; parts that are shared stay so."""
    return _Plain().of(value, 0)[0]


def count_items(value: Any, most: int) -> int:
    """Items of nested lists, tuples and dicts, those in shared parts counted as often as they are met; any other object counts as one.

    Raises:
      UnpicklingError: there are more than `most`, nested deeper than `DEEPEST`, or in a container that contains itself.
    """
    return _Plain(most, others=True).of(value, 0)[1]


class _Plain:
    """Replaces stand-ins; remembers every container by its identity, with the number of items in it.

    Args of the constructor:
      most: items that are allowed.
      others: whether other objects are left as they are, instead of refused.
    """

    def __init__(self, most: int = MOST_ITEMS, others: bool = False) -> None:
        self._most, self._others = most, others
        # The container itself is kept, so that no other gets its identity; None while it is being worked on.
        self._seen: dict[int, tuple[Any, tuple[Any, int] | None]] = {}

    def of(self, value: Any, depth: int) -> tuple[Any, int]:
        """(the object without stand-ins, its items with those inside of them).

        Raises:
          UnpicklingError: it contains itself, other objects, or more than `MOST_ITEMS`, or is nested deeper than `DEEPEST`.
        """
        while isinstance(value, _Array):
            value, depth = value.value, depth + 1
            if depth > DEEPEST:
                raise Refused("values nested too deeply")
        if value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray):
            return value, 1
        if not isinstance(value, dict | list | tuple):
            if self._others:
                return value, 1
            raise Refused(f"a {type(value).__name__}")
        if depth > DEEPEST:
            raise Refused("values nested too deeply")
        if id(value) in self._seen:
            done = self._seen[id(value)][1]
            if done is None:
                raise Refused("a value that contains itself")
            return done
        key, self._seen[id(value)] = id(value), (value, None)
        count, items = 1, []
        for item in value.values() if isinstance(value, dict) else value:
            plain, size = self.of(item, depth + 1)
            items.append(plain)
            count += size
            if count > self._most:
                raise Refused(f"more than {self._most:,} items")
        if not self._others:
            value = dict(zip(value, items, strict=True)) if isinstance(value, dict) else type(value)(items)
        done = value, count
        self._seen[key] = self._seen[key][0], done
        return done
