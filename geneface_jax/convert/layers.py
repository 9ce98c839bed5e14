"""PyTorch layers in Flax layout, by rules: which module of theirs becomes which module of ours, and what kind of layer it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_tools.errors import InputError

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


class Rule(NamedTuple):
    """One kind of module.

    Attributes:
      pattern: regular expression of the module's path in a state_dict (without the last name).
      kind: "dense" [O, I]; "conv" [O, I, K]; "transposed" [I, O, K]; "middle_tap": a convolution of width 3 that only ever saw sequences of
        length 1, a dense layer for us; "norm": batch norm; "embedding": [rows, C] under our name as it is.
      target: our module path, parts separated by "/", with groups of the pattern.
    """

    pattern: str
    kind: str
    target: str


def convert(weights: Mapping[str, np.ndarray], rules: Sequence[Rule], values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Builds {"params", "batch_stats"} from a state_dict.

    Args:
      weights: name -> array; batch-norm counters are left out.
      rules: for every module.
      values: whole name -> our path, for parameters that are taken as they are.

    Raises:
      InputError: a name that no rule knows.
    """
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    unknown = []
    for key, value in weights.items():
        if key.endswith("num_batches_tracked"):
            continue
        value = np.asarray(value, np.float32)
        if values and key in values:
            put(variables["params"], values[key], value)
            continue
        prefix, _, leaf = key.rpartition(".")
        found = next(((match, rule) for rule in rules if (match := re.fullmatch(rule.pattern, prefix))), None)
        if found is None:
            unknown.append(key)
            continue
        match, rule = found
        collection, name, array = _layer(rule.kind, leaf, value)
        put(variables[collection], f"{match.expand(rule.target)}/{name}", array)
    if unknown:
        raise InputError(
            f"the checkpoint has names that this model does not know: {', '.join(sorted(unknown))}; is it one of another model?"
        )
    return variables


def put(tree: dict[str, Any], path: str, value: np.ndarray) -> None:
    """Sets a leaf of a nested dict; parts of the path are separated by "/"."""
    *parents, last = path.split("/")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _layer(kind: str, leaf: str, value: np.ndarray) -> tuple[str, str, np.ndarray]:
    """(collection, name, array in our layout) of one tensor."""
    if kind == "norm":
        return *_BATCH_NORM[leaf], value
    if leaf == "bias":
        return "params", "bias", value
    if leaf == "weight_g":
        return "params", "scale", value.reshape(-1)
    name = "direction" if leaf == "weight_v" else "kernel"
    if kind == "embedding":
        return "params", "embedding", value
    if kind == "dense":
        return "params", name, value.T
    if kind == "middle_tap":
        return "params", name, value[:, :, value.shape[2] // 2].T
    return "params", name, value.transpose((0, 2, 1) if kind == "transposed" else (2, 1, 0))


def check_shapes(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Compares a converted tree with the model's own (arrays or shapes).

    Raises:
      InputError: leaves that are missing, left over or of another shape, all of them named.
    """
    ours, theirs = flat_shapes(expected), flat_shapes(found)
    problems = [f"{name} is missing" for name in sorted(ours.keys() - theirs.keys())]
    problems += [f"{name} is not part of this model" for name in sorted(theirs.keys() - ours.keys())]
    problems += [f"{k} is {theirs[k]}, the model has {ours[k]}" for k in sorted(ours.keys() & theirs.keys()) if ours[k] != theirs[k]]
    if problems:
        raise InputError(f"{what} does not fit the model: {'; '.join(problems)}")


def flat_shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every leaf of a nested dict."""
    return {path: tuple(np.shape(leaf)) for path, leaf in flat_leaves(tree).items()}


def flat_leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Path -> leaf of a nested dict; parts of a path are separated by "/"."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat_leaves(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves
