"""Parts shared by all command lines: error handling, progress bars, device choice, option dataclasses, options of `prepare`."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_tools.errors import InputError


def run_step(main: Callable[[], None]) -> None:
    """Runs a command line of the data tools; an InputError becomes one sentence and exit code 2, Ctrl-C exit code 130."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # silences the startup messages of MediaPipe and TensorFlow Lite
    set_up_logging()
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


# -------- Logging and progress bars, for terminals and log files

PACKAGES = ("data_tools", "geneface_jax", "geneface_kernels")


class _StderrHandler(logging.Handler):
    """Writes messages to stderr as plain lines, above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


_HANDLER = _StderrHandler()


def set_up_logging(level: int = logging.INFO) -> None:
    """Sends the log of the three packages from `level` on to stderr. Above INFO (`-q`), progress bars stay hidden too."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(_HANDLER)  # adding it twice has no effect


def is_quiet() -> bool:
    """Whether a command line asked for warnings and errors alone."""
    logger = logging.getLogger(PACKAGES[0])
    return _HANDLER in logger.handlers and logger.level > logging.INFO


TERMINAL_SECONDS, LOG_SECONDS = 0.1, 30.0
"""Time between two updates of a bar. A log file keeps every update as a line, so it gets few."""


def bar(*args, **options) -> tqdm:
    """`tqdm` on stderr, updated rarely unless stderr is a terminal; takes the arguments of `tqdm`."""
    interval = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(*args, **{"mininterval": interval, **options, "disable": options.get("disable", False) or is_quiet()})


def frames_bar(show: bool = True) -> functools.partial:
    """A factory of bars that count frames; they stay invisible unless `show`."""
    return functools.partial(bar, unit="frame", disable=not show)


# -------- Device choice (`--device`)


@contextmanager
def jax_device(device: str | None) -> Iterator[None]:
    """Makes "cpu" or the first "gpu" JAX's default device inside the block; None keeps JAX's own choice and does not import JAX.

    Raises:
      InputError: the machine or the installed JAX has no such device.
    """
    if device is None:
        yield
        return
    import jax

    try:
        first = jax.devices(device)[0]
    except RuntimeError as error:
        raise InputError(
            f"JAX finds no {device} on this machine: remove --device, or run `geneface doctor` to see what is missing."
        ) from error
    with jax.default_device(first):
        yield


# -------- Option dataclasses: a frozen dataclass holds defaults, ranges and help; command line and studio are made from it


def option(default: Any, help: str, *, low: float | None = None, high: float | None = None, step: float | None = None, choices=None) -> Any:
    """A dataclass field with its help text and either a range (`step` is for sliders) or a list of choices."""
    metadata = {"help": help, "low": low, "high": high, "step": step, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """Command-line name of a field: `mouth_amp` -> `--mouth-amp`."""
    return "--" + name.replace("_", "-")


def base_type(field: dataclasses.Field) -> type:
    """Type of a field's value, ignoring `| None`."""
    return {"int": int, "float": float, "str": str}[str(field.type).split(" |")[0]]


def check_ranges(options: Any) -> None:
    """Checks every field against its choices or its range.

    Raises:
      InputError: a value is not allowed; names the option, the value and the allowed values.
    """
    for field in dataclasses.fields(options):
        value, meta = getattr(options, field.name), field.metadata
        if meta["choices"] is not None and value not in meta["choices"]:
            raise InputError(f"{flag(field.name)} is {value!r}: choose {', '.join(meta['choices'])}.")
        if meta["low"] is not None and value is not None:
            kinds = (int,) if base_type(field) is int else (int, float)
            # This comparison also rejects NaN, which compares false with everything.
            if isinstance(value, bool) or not isinstance(value, kinds) or not meta["low"] <= value <= meta["high"]:
                raise InputError(f"{flag(field.name)} is {value!r}: give a number from {meta['low']} to {meta['high']}.")


def add_options(group: argparse._ArgumentGroup, fields: Iterable[dataclasses.Field]) -> None:
    """Adds one option per field, with default and range in the help. Options not given are absent from the parsed arguments."""
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
    """Values of the fields that were given on the command line."""
    return {field.name: getattr(args, field.name) for field in fields if hasattr(args, field.name)}


# -------- Options of `geneface prepare`, `geneface fit` and `python -m data_tools.prepare`; no heavy imports, so that --help is fast

FACE_MODELS = ("mediapipe", "bfm")


def add_prepare_options(parser: argparse.ArgumentParser, size: int = 512) -> None:
    """Adds the options, named like the arguments of `data_tools.prepare.prepare`; `size` is the default of --size."""
    add = parser.add_argument
    add("--size", type=int, default=size, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    add("--trim", metavar="A-B", help="use only the seconds from A to B")
    add("--face-model", default="mediapipe", choices=FACE_MODELS, help="face model that gives the landmarks (default %(default)s)")
    add("--bfm-folder", type=Path, metavar="DIR", help="folder with the files of the Basel face model, for --face-model bfm")
    add("--audio-offset", type=float, default=0.0, metavar="SECONDS", help="delay of the sound (the report estimates the one that fits)")
    add("--segmenter-model", type=Path, metavar="FILE", help="MediaPipe's selfie_multiclass_256x256.tflite, for finer masks")
    add("--name", help="name of the person (default: the name of the folder)")
    add("--consent", metavar='"WHO, WHEN"', help="who agreed to this use, and when; kept in the dataset and the model card")
    add("--workers", type=int, default=1, metavar="N", help="worker processes (default %(default)s); the result does not depend on it")
    add("--device", choices=("cpu", "gpu"), help="device for JAX, if it is used (default: JAX's own choice)")


OPTION_NAMES = (
    "size", "trim", "face_model", "bfm_folder", "audio_offset", "segmenter_model", "name", "consent", "workers", "device",
)  # fmt: skip
