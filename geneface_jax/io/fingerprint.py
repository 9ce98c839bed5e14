"""A short name for the values of a tree of arrays, to know a network again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def fingerprint(tree: Mapping[str, Any]) -> str:
    """16 hex digits of a sha256 over names, shapes and values of a nested dict's arrays.

    The order of names does not count, and values count in half precision, as released checkpoints may hold them.
    """
    digest = hashlib.sha256()
    _add(digest, "", tree)
    return digest.hexdigest()[:16]


def head_fingerprint(params: Mapping[str, Any]) -> str:
    """`fingerprint` of what a head looks like.

    The condition encoder does not count: GeneFace++ gives the copy of the head that a torso carries another blink size, which changes
    nothing behind the head.

    Args:
      params: of a stage "head" or "head_sr".
    """
    field = params.get("head", params)
    return fingerprint({name: field[name] for name in ("position_encoder", "sigma_net", "color_net")})


def _add(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value):
            _add(digest, f"{name}/{key}", value[key])
        return
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(value, np.float16)
    digest.update(f"{name} {array.shape}\n".encode())
    digest.update(array.tobytes())
