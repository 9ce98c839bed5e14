"""Shipped files; ml_collections configs: loading by name, overrides, saving with a run, and which changes a resumed run accepts."""

import ast
import builtins
import dataclasses
import difflib
import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.io import read_json, write_json

# -------- Shipped files: configs/ and checkpoints/, at the top of a clone, below the package where a wheel is installed (setup.py)

_PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = _PACKAGE / "shipped"
"""Where a wheel has them."""


def clone() -> Path | None:
    """The clone of the repository that this process runs from; None where a wheel is installed."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "kernels" / "geneface_kernels").is_dir() else None


def shipped(name: str) -> Path:
    """A shipped folder, "configs" or "checkpoints" (the demo person; corpus, SyncNet and audio2motion of the avatar).

    Raises:
      InputError: the installation lacks it.
    """
    root = clone()
    folder = (root or INSTALLED) / name
    if not folder.is_dir():
        remedy = f"`git checkout -- {name}` in {root} brings it back" if root else "reinstall geneface_jax from a complete wheel"
        raise InputError(f"This installation has no {name}/ ({folder} is missing): {remedy}.")
    return folder


def resolve(path: str | os.PathLike[str]) -> Path:
    """`path`; or, where nothing is there and it begins with checkpoints/ or configs/, the shipped file of that name.

    `checkpoints/avatar/corpus` therefore means the same in every folder, and a saved config that says so is valid on other machines.

    Raises:
      InputError: see `shipped`.
    """
    path = Path(path)
    if path.exists() or path.parts[:1] not in (("checkpoints",), ("configs",)):
        return path
    there = shipped(path.parts[0]).parent / path
    return there if there.exists() else path


def require_not_installed(folder: str | os.PathLike[str], remedy: str) -> None:
    """Raises InputError with `remedy` if `folder` lies in an installed wheel: what is written there is lost with the next installation."""
    if Path(folder).resolve().is_relative_to(INSTALLED):
        raise InputError(f"{folder} belongs to the installation of geneface_jax, where nothing is written: {remedy}.")


# -------- Config files: loading, overriding, saving
#
# A config file is Python with one `get_config(variant)` that returns an `ml_collections.ConfigDict`. It is named `FILE[:variant]`:
# `configs/head.py:demo`, or `head:demo` for a file of the shipped `configs/`.

CONFIG_FILE = "config.json"

TRAIN_DEFAULTS = {
    # Checkpoints of steps divisible by this are kept forever; 0 keeps none for that reason.
    "milestones_every": 0,
    # NaN recovery: a loss that is not finite returns the run to its last checkpoint, with learning rates multiplied by `return_rate`,
    # up to `returns` times.
    "returns": 3,
    "return_rate": 0.5,
    # Shell patterns on names of parameters (`params/position_encoder/*`) that are not trained.
    "freeze": (),
}
"""Keys of `config.train` that every stage has and its config file may omit."""

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def load(name: str, overrides: Sequence[str] | Mapping[str, Any] = ()) -> ConfigDict:
    """Reads `FILE[:variant]` and applies overrides.

    Args:
      name: a path, `configs/FILE` from any folder, or the bare name of a shipped file; `:variant` is passed to `get_config`.
      overrides: `{"a.b": value}`, or texts `a.b=value` or `--config.a.b=value`.

    Returns:
      the resolved config.

    Raises:
      InputError: no such file, not a config file, no such variant, an unknown key (suggests the nearest), a value of the wrong type.
    """
    config = from_file(name).copy_and_resolve_references()
    if "train" in config:
        config.train = train_plan(config)
    return override(config, overrides)


def from_file(name: str) -> ConfigDict:
    """The config as its file makes it: `get_config(variant)` of `FILE[:variant]`. Arguments and errors as `load`."""
    path, variant = _locate(name)
    get_config = _run_config_file(path, {}).get("get_config")
    if get_config is None:
        raise InputError(f"{path} defines no get_config(variant): name one of the files in {shipped('configs')}.")
    try:
        return get_config(variant) if variant else get_config()
    except (KeyError, ValueError) as error:
        raise InputError(f"{name} can't be made into a config: {error}.") from error


def train_plan(config: ConfigDict) -> ConfigDict:
    """`config.train`, with `TRAIN_DEFAULTS` for missing keys."""
    return ConfigDict({**config.train.to_dict(), **{key: value for key, value in TRAIN_DEFAULTS.items() if key not in config.train}})


def override(config: ConfigDict, overrides: Sequence[str] | Mapping[str, Any]) -> ConfigDict:
    """Applies `[--config.]a.b=value` assignments, or a mapping of dotted keys to values, to a copy of `config`.

    A value must have the key's type: int, float (an int will do), bool (as text true/false), str (a path will do), a tuple of the same
    element type (as text in Python syntax), or anything if the key's value is None.

    Raises:
      InputError: see `load`.
    """
    config = config.copy_and_resolve_references()
    for key, value in _assignments(overrides):
        holder, leaf = _find(config, key)
        with holder.ignore_type():
            holder[leaf] = _parse(key, value, holder[leaf])
    return config


def _assignments(overrides: Sequence[str] | Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every override; values are text unless they come from a mapping."""
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            yield key, os.fspath(value) if isinstance(value, os.PathLike) else value
        return
    for text in overrides:
        key, equals, value = text.removeprefix("--").removeprefix("config.").partition("=")
        if not equals:
            raise InputError(f"{text!r} is not an override: write --config.key=value.")
        yield key, value


def keys(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of all leaves."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def leaves(config: ConfigDict) -> dict[str, Any]:
    """Dotted name -> value of every leaf."""
    return {key: _get(config, key) for key in keys(config)}


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Leaves that differ, as `key: old -> new`."""
    old_leaves, new_leaves = leaves(old), leaves(new)
    names = list(dict.fromkeys([*old_leaves, *new_leaves]))
    absent = "absent"
    return [
        f"{key}: {old_leaves.get(key, absent)} -> {new_leaves.get(key, absent)}"
        for key in names
        if old_leaves.get(key, absent) != new_leaves.get(key, absent)
    ]


def save(config: ConfigDict, folder: str | os.PathLike) -> Path:
    """Writes the resolved config as `folder/config.json`."""
    return write_json(Path(folder) / CONFIG_FILE, to_json(config), checksum=True)


def load_saved(folder: str | os.PathLike) -> ConfigDict:
    """Reads `folder/config.json`; lists become tuples, as in config files.

    Raises:
      InputError: the folder has none, or a damaged one.
    """
    path = Path(folder) / CONFIG_FILE
    return from_json(read_json(path, "copy the config from the newest checkpoint's meta, or train again in a new folder"), path)


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as plain dicts, lists and scalars."""
    return _plain(config.copy_and_resolve_references().to_dict())


def from_json(value: Any, where: str | os.PathLike = CONFIG_FILE) -> ConfigDict:
    """The inverse of `to_json`.

    Raises:
      InputError: it is not what `to_json` made; `where` is its file.
    """
    try:
        return ConfigDict(_tuples(value))
    except (TypeError, ValueError, AttributeError, KeyError) as error:  # no dict, or names that a ConfigDict can't have
        raise InputError(f"{where} holds no config ({error}): train again, or copy it again from its source.") from error


def _run_config_file(path: Path, loaded: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """Runs a config file and returns its names.

    A config file imports its neighbors by their plain names, `from base import new_config`: names of files in its own folder, or else in
    the shipped configs/. Only the file being run sees them: nothing is added to `sys.modules` or `sys.path`.

    Args:
      path: the file.
      loaded: names of the neighbors that this load has run already.

    Raises:
      InputError: it can't be read as Python, or imports something that is neither a neighbor nor installed.
    """
    if path in loaded:
        return loaded[path]

    def import_(name: str, scope: Any = None, own: Any = None, fromlist: Sequence[str] = (), level: int = 0) -> Any:
        neighbor = next((file for folder in (path.parent, shipped("configs")) if (file := folder / f"{name}.py").is_file()), None)
        if level or neighbor is None or neighbor == path:
            return builtins.__import__(name, scope, own, fromlist, level)
        return SimpleNamespace(**_run_config_file(neighbor, loaded))

    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path), "__builtins__": {**vars(builtins), "__import__": import_}}
    loaded[path] = names
    try:
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} imports {error.name}, which is neither a file beside it nor installed: add it or remove the import."
        ) from error
    except ImportError as error:
        raise InputError(f"{path} can't be loaded, {error.msg}: correct the import.") from error
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InputError(f"{path} isn't a Python config file ({error}): name a file that defines get_config(variant).") from error
    return names


def _locate(name: str) -> tuple[Path, str]:
    """`FILE[:variant]` -> an existing file and the variant ("" if there is none)."""
    file, colon, variant = name.rpartition(":")
    if not colon or variant.endswith(".py"):
        file, variant = name, ""
    if Path(file).is_file():
        return Path(file), variant
    configs = shipped("configs")
    for candidate in (resolve(file), configs / file, configs / f"{file}.py"):
        if candidate.is_file():
            return candidate, variant
    known = sorted(path.relative_to(configs).with_suffix("").as_posix() for path in configs.rglob("*.py") if path.stem != "base")
    nearest = difflib.get_close_matches(Path(file).stem, known, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are: {', '.join(known)}."
    raise InputError(f"There is no config file {file}: {hint}")


def _find(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """Resolves a dotted key to (the dict that contains it, its last name)."""
    known = list(keys(config))
    if key not in known:
        inside = [name for name in known if name.startswith(f"{key}.")]
        if inside:
            raise InputError(f"config.{key} is a group of keys: set one of them, for example --config.{inside[0]}=…")
        nearest = difflib.get_close_matches(key, known, 1, cutoff=0.0)
        raise InputError(f"There is no config key {key!r}: did you mean --config.{nearest[0] if nearest else 'seed'}=…?")
    *parents, leaf = key.split(".")
    for name in parents:
        config = config[name]
    return config, leaf


def _parse(key: str, text: Any, old: Any) -> Any:
    """`text`, or a value from Python, as a value of the type of `old`."""
    if not isinstance(text, str):
        return _checked(key, text, old)
    try:
        if isinstance(old, bool):
            return _BOOLEANS[text.lower()]
        if isinstance(old, int):
            return int(text)
        if isinstance(old, float):
            return float(text)
        if isinstance(old, str):
            return text
        if isinstance(old, (tuple, list)):
            values = ast.literal_eval(text)
            values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
            return tuple(_parse(key, str(value), old[0]) for value in values) if old else values
    except (KeyError, ValueError, SyntaxError) as error:
        kind = type(old).__name__
        raise InputError(f"--config.{key}={text} is not of the key's type {kind}: its value is {old!r}, give one of that type.") from error
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _checked(key: str, value: Any, old: Any) -> Any:
    """`value` if it is of the type of `old`."""
    if isinstance(old, (tuple, list)) and isinstance(value, (tuple, list)):
        return tuple(_checked(key, item, old[0]) for item in value) if old else tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is None or type(value) is type(old):
        return value
    raise InputError(
        f"config.{key} is {value!r}, which is not of the key's type {type(old).__name__}: its value is {old!r}, give one of that type."
    )


def _get(config: ConfigDict, key: str) -> Any:
    holder, leaf = _find(config, key)
    value = holder[leaf]
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


# -------- Resume rules: which keys a resumed run keeps, and which config changes it refuses

BEGUN_BEFORE = {"data.draw": "starts", "distortion.weight": 0.0, "distortion.jitter": 1.0}
"""Keys that a resumed run keeps as it began (its batches or its last steps depend on them) -> their value in a run that began
before they existed."""


def as_begun(config: ConfigDict, workdir: str | os.PathLike) -> tuple[ConfigDict, list[str]]:
    """A resumed run's config with the keys of `BEGUN_BEFORE` as they were when the run began, so that it goes on with the same batches.

    Args:
      config: the resolved config to resume with.
      workdir: the run's work folder.

    Returns:
      (a copy of the config, or the config itself if nothing differs; a sentence for every key that was set back).
    """
    if not (Path(workdir) / CONFIG_FILE).is_file():
        return config, []
    known, began = set(keys(config)), leaves(load_saved(workdir))
    kept = {key: began.get(key, before) for key, before in BEGUN_BEFORE.items() if key in known}
    changed = {key: value for key, value in kept.items() if value != _get(config, key)}
    sentences = [
        f"config.{key} stays {value!r}, with which this run began (a new --workdir begins with {_get(config, key)!r})"
        for key, value in changed.items()
    ]
    return (override(config, changed) if changed else config), sentences


REFUSE, WARN = "refuse", "warn"

RULES = (
    # (pattern on the dotted key, action, reason)
    ("stage", REFUSE, "another network"),
    ("seed", REFUSE, "the order of the data and all random draws depend on it"),
    ("model.codes", WARN, "read from the dataset; the tensors' shapes are compared anyway"),
    ("model.*", REFUSE, "another network, or the same tensors read in another way"),
    ("audio2motion.*", REFUSE, "the VAE inside a PostNet"),
    ("super_resolution.*", REFUSE, "another network"),
    ("data.face_model", REFUSE, "landmarks of another kind"),
    ("data.audio_model", REFUSE, "audio features of another kind"),
    ("data.fingerprint", REFUSE, "another dataset"),
    ("data.center", REFUSE, "another network space"),
    ("march.bound", REFUSE, "the extent of the scene that the grids cover"),
    ("*", WARN, "the run continues differently from here"),
)
"""The first pattern that matches a key decides. A key that only one config has is never refused: configs gain keys over time."""


@dataclasses.dataclass(frozen=True)
class ConfigChange:
    """A changed key, the change as text, and the action and reason of its rule."""

    key: str
    text: str
    action: str
    why: str


def config_changes(old: ConfigDict, new: ConfigDict) -> list[ConfigChange]:
    """Every leaf that differs, with its rule from `RULES`."""
    shared = set(keys(old)) & set(keys(new))
    found = []
    for text in differences(old, new):
        key = text.partition(":")[0]
        action, why = next((action, why) for pattern, action, why in RULES if fnmatch.fnmatch(key, pattern))
        found.append(ConfigChange(key, text, action if key in shared else WARN, why))
    return found


def require_resumable(workdir: str | os.PathLike, new: ConfigDict, *, lenient: bool = False) -> list[str]:
    """Checks the config of a resumed run against the config.json it was started with.

    Args:
      workdir: the run's work folder.
      new: the resolved config to resume with.
      lenient: `--restore lenient` turns refusals into warnings.

    Returns:
      a sentence for every accepted change.

    Raises:
      InputError: a change that its rule refuses.
    """
    if not (Path(workdir) / CONFIG_FILE).is_file():
        return []
    found = config_changes(load_saved(workdir), new)
    refused = [change for change in found if change.action == REFUSE and not lenient]
    if refused:
        first, more = refused[0], f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise InputError(
            f"config.{first.text}{more} can't change in a run that is resumed ({first.why}): set it back, use another --workdir than "
            f"{workdir}, or accept it with --restore lenient."
        )
    return [f"config changed since the last run: {change.text}" for change in found]
