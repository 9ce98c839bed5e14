"""Safe reading of the checkpoint files of GeneFace and GeneFace++.

Their trainer writes `model_ckpt_steps_<N>.ckpt`: {"global_step", ..., "state_dict": {child: {name: tensor}}}; `model_ckpt_best.pt` has the
same content, and older files hold one flat {"model.<name>": tensor}. All are pickles, which can execute arbitrary code when loaded. They
are opened only with PyTorch's restricted reader (`weights_only`), which builds tensors, plain containers and the few numpy scalars that the
originals' learning-rate schedules leave in the optimizer state, and refuses everything else.
"""

import dataclasses
import re
import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError

STEP_FILE = re.compile(r"model_ckpt_steps_(\d+)\.ckpt")
BEST_FILE = "model_ckpt_best.pt"

# The networks in a task: `model`, `disc_model`, and the same in nested tasks.
_NETWORK = re.compile(r"((?:(?:audio2motion_task|syncnet_task)\.)*(?:model|disc_model)|criterion_lpips|head_model)\.(.+)")

_EXPECTED = "give a checkpoint file of GeneFace or GeneFace++, or the folder that holds it"

# PyTorch's message about a refused global or function.
_FORBIDDEN = re.compile(r"(?:GLOBAL|class|callable|function) `?([\w.]+)`?(?= | was not)")

MINIMUM_TORCH = (2, 6)
"""Before 2.6 the restricted reader could execute code (CVE-2025-32434)."""


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
    tensors = dict(_flatten(raw["state_dict"] if isinstance(raw.get("state_dict"), Mapping) else raw))
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

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{path} is not a config in YAML ({problem}): repair it, or move it away to import without it.") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{path} is not a mapping of settings: repair it, or move it away to import without it.")
    return values or {}


def number(hparams: Mapping[str, Any], key: str) -> float | None:
    """A numeric setting, including numbers that YAML reads as text ("1e-8"); None if it is missing or not a number."""
    value = hparams.get(key)
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _load(path: Path) -> Any:
    torch = _torch()
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


def _flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, leaf) of nested dicts, without the prefixes that torch.compile adds."""
    for name, value in tree.items():
        full = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{full}.")
        else:
            yield full.replace("_orig_mod.", ""), value


def _networks(tensors: Mapping[str, Any], path: Path) -> dict[str, dict[str, np.ndarray]]:
    networks: dict[str, dict[str, np.ndarray]] = {}
    not_finite = []
    for name, value in tensors.items():
        if not hasattr(value, "detach"):
            continue  # counters and settings in flat files
        match = _NETWORK.fullmatch(name)
        network, inner = (match[1], match[2]) if match else ("model", name)
        value = value.detach()
        array = (value.float() if value.is_floating_point() else value).numpy()
        if not np.isfinite(array).all():
            not_finite.append(name)
        networks.setdefault(network, {})[inner] = array
    if not networks:
        raise InputError(f"{path} holds no tensors: {_EXPECTED}.")
    if not_finite:
        raise InputError(f"{path} holds values that are not finite in {', '.join(not_finite)}: use an earlier step.")
    return networks


def _step(raw: Mapping[str, Any], path: Path) -> int:
    if isinstance(raw.get("global_step"), int):
        return raw["global_step"]
    named = STEP_FILE.fullmatch(path.name)
    return int(named[1]) if named else 0
