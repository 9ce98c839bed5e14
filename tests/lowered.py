"""The matrix products of a lowered program: with which precision, and where in this repository they were written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]

NO_WARNINGS = (
    "error",
    "ignore:The Pallas Triton backend is deprecated",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
"""Filters under which a program may be lowered without any warning: no warning but that of jax >= 0.12 about Triton may appear (such as one
about Mosaic GPU). What earlier tests left for the garbage collector, such as sockets, is not the program's."""

_PRODUCT = re.compile(r"stablehlo\.(dot_general|dot|convolution)\b")
_ALIAS = re.compile(r"^(#loc\d*) = loc\((.*)\)$")
_REFERENCE = re.compile(r"#loc\d*")
_FILE = re.compile(r'^"([^"]+)":\d+')


class Product(NamedTuple):
    """A matrix product or convolution: whether both of its factors keep all digits of float32, and the file that asked for it (relative
    to the repository, the innermost one of the call; "" if none is of the repository)."""

    exact: bool
    file: str


def products(lowered: Any) -> list[Product]:
    """All products of `jax.jit(f).lower(...)`, gradients and called functions included."""
    lines = lowered.as_text(debug_info=True).splitlines()
    aliases = {match[1]: match[2] for line in lines if (match := _ALIAS.match(line))}
    found = []
    for line in lines:
        if _PRODUCT.search(line):
            where = _REFERENCE.findall(line)
            assert where, f"no source location: {line}"
            found.append(Product("DEFAULT" not in line and line.count("HIGHEST") == 2, _file(aliases, where[-1])))
    return found


def _file(aliases: dict[str, str], name: str) -> str:
    """The first file of the repository in a location's chain of calls, which begins with the innermost."""
    text = aliases.get(name, "")
    if match := _FILE.match(text):
        path = Path(match[1])
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) and ".venv" not in path.parts else ""
    return next((file for other in _REFERENCE.findall(text) if (file := _file(aliases, other))), "")
