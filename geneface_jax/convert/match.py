"""Fitting a state_dict into one of our networks, key by key, so that everything that is wrong with it can be told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_tools.errors import InputError
from geneface_jax.convert.layers import flat_leaves, flat_shapes, put

Converter = Callable[[Mapping[str, np.ndarray]], dict[str, Any]]
"""state_dict -> {"params", "batch_stats"}, as the functions of `convert.speech`; works for any part of a state_dict."""


def match(weights: Mapping[str, np.ndarray], converter: Converter, expected: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Converts a state_dict and compares it with the network it is for.

    Args:
      weights: the original's names -> arrays.
      converter: of this network.
      expected: the network's own variables, arrays or shapes.

    Returns:
      (variables, problems): the collections that are not empty, and a phrase for every key that is unknown, missing (under our name) or of
      another shape. The variables are only of use when there are no problems.
    """
    shapes = flat_shapes(expected)
    variables: dict[str, Any] = {}
    problems, seen = [], set()
    for key, value in weights.items():
        try:
            leaves = flat_leaves(converter({key: value}))
        except InputError:
            problems.append(f"{key} is unknown")
            continue
        except (ValueError, IndexError):
            problems.append(f"{key} is {_times(value.shape)}, which no layer of its kind is")
            continue
        for path, array in leaves.items():
            if path not in shapes:
                problems.append(f"{key} is not part of this model")
            elif array.shape != shapes[path]:
                problems.append(f"{key} is {_times(value.shape)}: {path} is {_times(shapes[path])}, not {_times(array.shape)}")
            seen.add(path)
            put(variables, path, array)
    problems += [f"{path} is missing" for path in shapes if path not in seen]
    return variables, problems


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
