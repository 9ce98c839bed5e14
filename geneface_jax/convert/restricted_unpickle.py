"""Safe reading of `numpy.save(file, {...})` from untrusted sources.

Such a file is a pickle, and loading a pickle can execute arbitrary code. The unpickler here builds only numbers, text, lists, dicts and
plain arrays. The only globals it resolves are those of numpy arrays, and they resolve to stand-ins of this module that validate their
arguments (numpy's own classes would accept a forged dtype). Every other global is refused before anything is called.
"""

import io
import re
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import Any, BinaryIO

import numpy as np

from data_tools.errors import InputError

_NUMERIC_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_OBJECT = "O"


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
    except _Refused as error:
        raise InputError(f"{path} was not opened because it contains {error}, which is unsafe: use another file.") from error
    except Exception as error:  # an untrusted file can make the reader fail in any way; to the user all mean a damaged file
        raise InputError(f"{path} is damaged or not a file of numpy.save: create or copy it again.") from error


def loads(pickled: bytes) -> Any:
    """The object of a pickle, built as in `load`.

    Raises:
      UnpicklingError: it contains other objects.
    """
    return _plain(_Restricted(io.BytesIO(pickled)).load())


class _Refused(UnpicklingError):
    """An object that is not allowed; the message names it."""


class _Dtype:
    """Stand-in for numpy.dtype: a name such as "f4", then a state of which only the byte order is used."""

    def __init__(self, name: Any = "", *flags: Any):
        if not isinstance(name, str) or not (name == _OBJECT or name == "O8" or _NUMERIC_DTYPE.fullmatch(name)):
            raise _Refused(f"arrays of {name!r}")
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
            raise _Refused("an array without shape or type")
        if kind.name == _OBJECT:
            if not isinstance(data, list) or len(data) != int(np.prod(shape, dtype=np.int64)):
                raise _Refused("an object array of the wrong length")
            self.value = data[0] if shape == () else data
        else:
            flat = np.frombuffer(data, kind.real())
            self.value = flat.reshape(shape, order="F" if fortran else "C").copy()


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array:
        raise _Refused("a subclass of arrays")
    return _Array()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((shape, kind, order == "F", data))
    return array


def _scalar(kind: Any, data: Any = b"") -> Any:
    if not isinstance(kind, _Dtype) or kind.name == _OBJECT:
        raise _Refused("a scalar of an unknown type")
    return np.frombuffer(data, kind.real())[0].item()


_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED_GLOBALS |= {(f"{_core}.multiarray", "_reconstruct"): _reconstruct, (f"{_core}.multiarray", "scalar"): _scalar}
    _ALLOWED_GLOBALS |= {(f"{_core}.numeric", "_frombuffer"): _from_buffer}


class _Restricted(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED_GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("an object outside the file")


def _read(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.hasobject:
        return _plain(_Restricted(file).load())
    if dtype.fields is not None or not _NUMERIC_DTYPE.fullmatch(dtype.str):
        raise _Refused(f"arrays of {dtype}")
    data = np.frombuffer(file.read(), dtype, count=int(np.prod(shape, dtype=np.int64)))
    return data.reshape(shape, order="F" if fortran else "C").copy()


def _plain(value: Any) -> Any:
    """The object with stand-ins replaced by arrays."""
    if isinstance(value, _Array):
        return _plain(value.value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray):
        return value
    raise _Refused(f"a {type(value).__name__}")
