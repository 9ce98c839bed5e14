"""What all command lines share: option dataclasses with ranges, progress bars, device choice, error handling, options of `prepare`."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_tools.errors import InputError

# ----------------------------------------------------------------------------------------------------
# What the data tools' command lines share.


def run_step(main: Callable[[], None]) -> None:
    """Runs a command line; bad input becomes one sentence and exit code 2, Ctrl-C exit code 130."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # MediaPipe and TensorFlow Lite otherwise greet on stderr
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


# ----------------------------------------------------------------------------------------------------
# Bars of long work that suit a log file as well as a terminal.

TERMINAL_SECONDS, LOG_SECONDS = 0.1, 30.0
"""From one drawing of the bar to the next. A file keeps every drawing, so it gets few."""


def bar(*args, **options) -> tqdm:
    """`tqdm` on stderr, which draws rarely where that is no terminal; arguments as `tqdm`'s."""
    return tqdm(*args, **{"mininterval": TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS, **options})


def frames_bar(show: bool = True) -> functools.partial:
    """A maker of bars that count frames; none is drawn unless `show`."""
    return functools.partial(bar, unit="frame", disable=not show)


# ----------------------------------------------------------------------------------------------------
# Where JAX works, when the user says so.


@contextmanager
def jax_device(device: str | None) -> Iterator[None]:
    """Lets JAX work on "cpu" or on the first "gpu" inside the block; None leaves JAX's own choice, and JAX unimported.

    Raises:
      InputError: this machine, or the JAX that is installed, has no such device.
    """
    if device is None:
        yield
        return
    import jax

    try:
        first = jax.devices(device)[0]
    except RuntimeError as error:
        raise InputError(f"JAX finds no {device} here: leave --device out, or see `geneface doctor` for what is missing.") from error
    with jax.default_device(first):
        yield


# ----------------------------------------------------------------------------------------------------
# Options with ranges: a frozen dataclass that says its defaults, bounds and help once, and becomes a command line.


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


# ----------------------------------------------------------------------------------------------------
# The options of `geneface prepare`, `geneface fit` and `python -m data_tools.prepare`; light, so that --help answers at once.

FACE_MODELS = ("mediapipe", "bfm")


def add_prepare_options(parser: argparse.ArgumentParser, size: int = 512) -> None:
    """Adds the options; their names are the arguments of `data_tools.prepare.prepare`. `size` is the default of --size."""
    add = parser.add_argument
    add("--size", type=int, default=size, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    add("--trim", metavar="A-B", help="use only the seconds from A to B")
    add("--face-model", default="mediapipe", choices=FACE_MODELS, help="what makes landmarks of the face (default %(default)s)")
    add("--bfm-folder", type=Path, metavar="DIR", help="the Basel face model's files, for --face-model bfm")
    add("--audio-offset", type=float, default=0.0, metavar="SECONDS", help="delay the sound by so much (the report estimates it)")
    add("--segmenter-model", type=Path, metavar="FILE", help="MediaPipe's selfie_multiclass_256x256.tflite, for finer masks")
    add("--name", help="name of the person (default: the folder's)")
    add("--consent", metavar='"WHO, WHEN"', help="who agreed to this use, and when; kept in the dataset and the model card")
    add("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s); the result is the same with any number")
    add("--device", choices=("cpu", "gpu"), help="where JAX works, if it is used (default: its own choice)")


OPTION_NAMES = (
    "size", "trim", "face_model", "bfm_folder", "audio_offset", "segmenter_model", "name", "consent", "workers", "device",
)  # fmt: skip
