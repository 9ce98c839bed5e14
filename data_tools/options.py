"""Options with ranges: a frozen dataclass that says its defaults, bounds and help once, and becomes a command line."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from typing import Any

from data_tools.errors import InputError


def option(default: Any, help: str, *, low: float | None = None, high: float | None = None, step: float | None = None, choices=None) -> Any:
    """A dataclass field with its help, and its range (with the step of a slider) or its list of choices."""
    metadata = {"help": help, "low": low, "high": high, "step": step, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """Command-line spelling of a field: `mouth_amp` -> `--mouth-amp`."""
    return "--" + name.replace("_", "-")


def base_type(field: dataclasses.Field) -> type:
    """Type of a field's value without the `| None`."""
    return {"int": int, "float": float, "str": str}[str(field.type).split(" |")[0]]


def check_ranges(options: Any) -> None:
    """Checks every field against its choices or its range.

    Raises:
      InputError: a value is out of range; the sentence names the flag, the value and the range.
    """
    for field in dataclasses.fields(options):
        value, meta = getattr(options, field.name), field.metadata
        if meta["choices"] is not None and value not in meta["choices"]:
            raise InputError(f"{flag(field.name)} is {value!r}; choose {', '.join(meta['choices'])}")
        if meta["low"] is not None and value is not None:
            kinds = (int,) if base_type(field) is int else (int, float)
            # Written so that NaN, which compares false with everything, is refused too.
            if isinstance(value, bool) or not isinstance(value, kinds) or not meta["low"] <= value <= meta["high"]:
                raise InputError(f"{flag(field.name)} is {value!r}; give a number from {meta['low']} to {meta['high']}")


def add_options(group: argparse._ArgumentGroup, fields: Iterable[dataclasses.Field]) -> None:
    """Adds one flag per field, with its default and range in the help. What the user does not give is absent from the parsed arguments."""
    for field in fields:
        meta = field.metadata
        bounds = "" if meta["low"] is None else f" [{meta['low']} .. {meta['high']}]"
        default = "" if field.default is None else f" (default: {field.default})"
        group.add_argument(
            flag(field.name),
            dest=field.name,
            type=base_type(field),
            default=argparse.SUPPRESS,
            choices=meta["choices"],
            metavar=None if meta["choices"] else field.name.upper(),
            help=(meta["help"] + bounds + default).replace("%", "%%"),
        )


def given(args: argparse.Namespace, fields: Iterable[dataclasses.Field]) -> dict[str, Any]:
    """The values of those fields that the user gave."""
    return {field.name: getattr(args, field.name) for field in fields if hasattr(args, field.name)}
