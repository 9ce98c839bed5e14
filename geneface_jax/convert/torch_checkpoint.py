"""Safe reading of the checkpoint files of GeneFace and GeneFace++.

Their trainer writes `model_ckpt_steps_<N>.ckpt`: {"global_step", ..., "state_dict": {child: {name: tensor}}}; `model_ckpt_best.pt` has the
same content, and older files hold one flat {"model.<name>": tensor}. All are pickles, which can execute arbitrary code when loaded. They
are opened only with PyTorch's restricted reader (`weights_only`), which builds tensors, plain containers and the few numpy scalars that the
originals' learning-rate schedules leave in the optimizer state, and refuses everything else.

What that reader does not bound is bounded here: an outline of the pickle is built first, in which all objects are stand-ins, to count its
items; the archive may not be compressed; and the arrays of all tensors together may not be much larger than the file.
"""

import dataclasses
import math
import re
import types
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_tools.errors import InputError
from data_tools.records import Field
from geneface_jax.convert.restricted_unpickle import Bounded, Refused, count_items, require_plain_keys

STEP_FILE = re.compile(r"model_ckpt_steps_(\d+)\.ckpt")
BEST_FILE = "model_ckpt_best.pt"

# The networks in a task: `model`, `disc_model`, and the same in nested tasks.
_NETWORK = re.compile(r"((?:(?:audio2motion_task|syncnet_task)\.)*(?:model|disc_model)|criterion_lpips|head_model)\.(.+)")

_EXPECTED = "give a checkpoint file of GeneFace or GeneFace++, or the folder that holds it"

# PyTorch's message about a refused global or function.
_FORBIDDEN = re.compile(r"(?:GLOBAL|class|callable|function) `?([\w.]+)`?(?= | was not)")

MINIMUM_TORCH = (2, 6)
"""Before 2.6 the restricted reader could execute code (CVE-2025-32434)."""

MOST_ITEMS = 1_000_000
"""Items of all lists and dicts of a checkpoint; the originals' have ten thousand."""

LONGEST_NAME = 1000
"""Characters in the dotted name of a tensor."""

GROWTH = 4
"""Bytes of all arrays over bytes of the file: half precision is widened to twice its size, and a tensor may have two names."""

STEPS = Field(int, low=0, high=10**12)

MOST_YAML_BYTES, MOST_YAML_VALUES, LONGEST_YAML_VALUE = 1 << 20, 100_000, 4000
"""Of a config.yaml; the originals' have ten kilobytes and three hundred values."""


@dataclasses.dataclass(frozen=True)
class TorchCheckpoint:
    """Content of an original checkpoint file.

    Attributes:
      path: the file.
      step: number of updates; 0 if neither the file nor its name states it.
      networks: dotted name of a network ("model", "disc_model", "audio2motion_task.model", ...) -> its state_dict as numpy arrays (floats
        as float32), with the names of the network's module.
      hparams: the `config.yaml` next to the file; empty without one.
    """

    path: Path
    step: int
    networks: dict[str, dict[str, np.ndarray]]
    hparams: dict[str, Any]


def read(source: str | Path, step: int | None = None) -> TorchCheckpoint:
    """Reads a checkpoint file, or one of a work folder of the originals.

    Args:
      source: a file, or a folder with `model_ckpt_steps_<N>.ckpt` files.
      step: N; None for the newest (`model_ckpt_best.pt` if there are no steps).

    Raises:
      InputError: no such file or step, PyTorch is missing or too old, the file is not a checkpoint, or it would execute code.
    """
    path = find(Path(source), step)
    raw = _load(path)
    if not isinstance(raw, Mapping):
        raise InputError(f"{path} holds a {type(raw).__name__}, not a checkpoint: {_EXPECTED}.")
    tensors = dict(_flatten(raw["state_dict"] if isinstance(raw.get("state_dict"), Mapping) else raw, path))
    return TorchCheckpoint(path, _step(raw, path), _networks(tensors, path), read_hparams(path.parent / "config.yaml"))


def find(source: Path, step: int | None = None) -> Path:
    """The checkpoint file for `source` and `step`; arguments and errors as in `read`."""
    if source.is_file():
        named = STEP_FILE.fullmatch(source.name)
        if step is not None and not (named and int(named[1]) == step):
            raise InputError(f"{source} is a file of another step than --step {step}: give the folder, or remove --step.")
        return source
    if not source.is_dir():
        raise InputError(f"{source} does not exist: {_EXPECTED}.")
    steps = {int(match[1]): path for path in source.iterdir() if (match := STEP_FILE.fullmatch(path.name))}
    if step is not None:
        if step not in steps:
            found = ", ".join(map(str, sorted(steps))) or "none"
            raise InputError(f"{source} has no model_ckpt_steps_{step}.ckpt: choose an existing step ({found}).")
        return steps[step]
    if steps:
        return steps[max(steps)]
    if (source / BEST_FILE).is_file():
        return source / BEST_FILE
    raise InputError(f"{source} holds neither a model_ckpt_steps_<N>.ckpt nor {BEST_FILE}: {_EXPECTED}.")


def read_hparams(path: Path) -> dict[str, Any]:
    """Reads a `config.yaml` of the originals; {} without the file.

    YAML 1.1 as PyYAML reads it: 25_0000 is 250000; a float without a decimal point (1e-8) is text, see `number`. Tags that create Python
    objects are refused.

    Raises:
      InputError: the file is not such a config.
    """
    import yaml  # comes with flax and ml_collections

    if not path.exists():
        return {}
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_YAML_BYTES + 1).decode("utf-8")
        if len(text) > MOST_YAML_BYTES:
            raise ValueError(f"more than {MOST_YAML_BYTES >> 20} MiB")
        # In two steps, as aliases are counted in between: shared parts, which real files have too, are written out by whoever reads on.
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        _count_yaml(root, {})
        values = loader.construct_document(root)
    except Exception as error:  # text of a stranger can make the reader fail in any way: dates, numbers and tags have readers of their own
        problem = " ".join(str(error).split())[:200] or "too deeply nested"
        raise InputError(f"{path} is not a config in YAML ({problem}): repair it, or move it away to import without it.") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{path} is not a mapping of settings: repair it, or move it away to import without it.")
    return values or {}


def _count_yaml(node: Any, counted: dict[int, int]) -> int:
    """Values below a node, those behind aliases counted as often as they are met; ValueError for too many or too long ones, or a circle.

    Args:
      node: of `yaml.compose`.
      counted: id of a node -> its count; 0 while it is being counted.
    """
    if id(node) in counted:
        if not counted[id(node)]:
            raise ValueError("a value that contains itself")
        return counted[id(node)]
    counted[id(node)] = 0
    total = 1
    if isinstance(node.value, str):
        if len(node.value) > LONGEST_YAML_VALUE:
            raise ValueError(f"a value of {len(node.value)} characters")
    else:
        for child in node.value:
            total += sum(_count_yaml(part, counted) for part in (child if isinstance(child, tuple) else (child,)))
            if total > MOST_YAML_VALUES:
                raise ValueError(f"more than {MOST_YAML_VALUES} values")
    counted[id(node)] = total
    return total


def number(hparams: Mapping[str, Any], key: str) -> float | None:
    """A numeric setting, including numbers that YAML reads as text ("1e-8"); None if it is missing, not a number or not finite."""
    value = hparams.get(key)
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _load(path: Path) -> Any:
    torch = _torch()
    _require_bounded(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol; problems of the file are reported below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an untrusted file can make the reader fail in any way; to the user all mean a damaged file
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden:
            raise InputError(f"{path} was not opened because it calls {forbidden[1]}, which is unsafe: use another file.") from error
        # PyTorch's refusals end in the advice to load the file unsafely, which must not be passed on.
        refused = type(error).__name__ == "UnpicklingError" or not str(error)
        problem = "invalid content" if refused else str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{path} is damaged or not a PyTorch checkpoint ({problem}): get the file again.") from error


def _torch() -> types.ModuleType:
    try:
        import torch
    except ImportError as error:
        raise InputError("Reading original checkpoints needs PyTorch: `pip install geneface_jax[import]`.") from error
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < MINIMUM_TORCH:
        raise InputError(f"PyTorch {torch.__version__} opens untrusted files unsafely: `pip install 'torch>=2.6'`.")
    return torch


def _numpy_scalars() -> list[Any]:
    """The globals of a pickled numpy scalar, under the names of numpy 1 and numpy 2; none of them executes other code."""
    scalar = np.float64(0.0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("bool", "int32", "int64", "float32", "float64")]
    return [np.dtype, *kinds, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]


class _Object:
    """Stand-in, in the outline, for every object but containers."""

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Of a list of another class."""

    def extend(self, values: Any) -> None:
        """Of a list of another class."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Of a dict of another class."""


class _OrderedDict(dict):
    """Stand-in for `collections.OrderedDict`, which state dicts are."""

    def __init__(self, pairs: Any = ()):
        require_plain_keys([key for key, _ in pairs])
        super().__init__(pairs)

    def __setstate__(self, state: Any) -> None:
        pass


class _Outline(Bounded):
    """Builds the containers of a checkpoint, and stand-ins for all objects: nothing of the file is called."""

    def find_class(self, module: str, name: str) -> Any:
        return _OrderedDict if (module, name) == ("collections", "OrderedDict") else _Object

    def persistent_load(self, pid: Any) -> Any:
        # ("storage", class, key, device, size[, view]): the key becomes one of a dict.
        parts = pid if isinstance(pid, tuple) else (pid,)
        require_plain_keys([inner for part in parts for inner in (part if isinstance(part, tuple) else (part,)) if inner is not _Object])
        return _Object()


def _require_bounded(path: Path) -> None:
    """Raises InputError if a checkpoint would take far more memory or time than its size says."""
    try:
        with path.open("rb") as stream:
            if stream.read(2) == b"PK":
                _require_bounded_archive(path)
            else:
                stream.seek(0)
                for _ in range(5):  # a magic number, a version, the system, the content, and names of the storages that follow
                    _outline(stream)
    except Exception as error:
        reason = f"it contains {error}" if isinstance(error, Refused) else "the content is invalid"
        raise InputError(f"{path} is damaged or not a PyTorch checkpoint ({reason}): get the file again.") from error


def _require_bounded_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise Refused("compressed parts, which PyTorch doesn't write")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise Refused("parts that share their bytes")
        for member in members:
            if member.filename.endswith(".pkl"):
                with archive.open(member) as stream:
                    _outline(stream)


def _outline(stream: IO[bytes]) -> None:
    count_items(_Outline(stream).load(), MOST_ITEMS)


def _flatten(tree: Mapping[Any, Any], path: Path, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, leaf) of nested dicts, without the prefixes that torch.compile adds."""
    for name, value in tree.items():
        full = f"{prefix}{name}"
        if len(full) > LONGEST_NAME:
            raise InputError(f"{path} has a name of more than {LONGEST_NAME} characters: {_EXPECTED}.")
        if isinstance(value, Mapping):
            yield from _flatten(value, path, f"{full}.")
        else:
            yield full.replace("_orig_mod.", ""), value


def _networks(tensors: Mapping[str, Any], path: Path) -> dict[str, dict[str, np.ndarray]]:
    networks: dict[str, dict[str, np.ndarray]] = {}
    not_finite = []
    left = GROWTH * path.stat().st_size
    for name, value in tensors.items():
        if not hasattr(value, "detach"):
            continue  # counters and settings in flat files
        match = _NETWORK.fullmatch(name)
        network, inner = (match[1], match[2]) if match else ("model", name)
        array, left = _array(name, value.detach(), path, left)
        if not np.isfinite(array).all():
            not_finite.append(name)
        networks.setdefault(network, {})[inner] = array
    if not networks:
        raise InputError(f"{path} holds no tensors: {_EXPECTED}.")
    if not_finite:
        names = ", ".join(not_finite[:5]) + (f" and {len(not_finite) - 5} more" if len(not_finite) > 5 else "")
        raise InputError(f"{path} holds values that are not finite in {names}: use an earlier step.")
    return networks


def _array(name: str, tensor: Any, path: Path, left: int) -> tuple[np.ndarray, int]:
    """A tensor as an array, floats as float32; and the bytes that are left for others of the `left` ones.

    Raises:
      InputError: a tensor without plain values (sparse, quantized, on no device, complex), or larger than `left`.
    """
    strange = [kind for kind in ("is_sparse", "is_sparse_csr", "is_quantized", "is_meta", "is_nested") if getattr(tensor, kind, False)]
    if strange or str(tensor.layout) != "torch.strided" or tensor.is_complex() or tensor.device.type != "cpu":
        kind = strange[0].removeprefix("is_") if strange else "complex" if tensor.is_complex() else str(tensor.layout)
        raise InputError(f"{path} holds {name} as a tensor without plain values ({kind}): {_EXPECTED}.")
    size = tensor.numel() * (4 if tensor.is_floating_point() else tensor.element_size())
    # A tensor may repeat one value without end: its shape says nothing about the bytes in the file.
    if size > left:
        raise InputError(f"{path} holds {name} {list(tensor.shape)}, which is larger than the file: get the file again.")
    try:
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy(), left - size
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{path} holds {name} as a tensor of the type {tensor.dtype}, which can't be read: {_EXPECTED}.") from error


def _step(raw: Mapping[str, Any], path: Path) -> int:
    if STEPS.accepts(raw.get("global_step")):
        return raw["global_step"]
    named = STEP_FILE.fullmatch(path.name)
    return int(named[1]) if named else 0
