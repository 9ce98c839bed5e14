"""Parts shared by all command lines: one door, error handling, progress bars, device choice, option dataclasses, options of `prepare`."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from tqdm import tqdm

from data_tools.errors import InputError, make_printable

# -------- The door of every command line, `geneface VERB` and `python -m data_tools.TOOL`


def run_program() -> None:
    """Runs `python -m data_tools.TOOL`: the parser and the exit codes of `geneface TOOL`. The tool's module calls it as a program."""
    tool = sys.modules["__main__"]
    name = str(getattr(tool.__spec__, "name", "")).removesuffix(".__main__")
    sys.exit(run_command(lambda: tool, f"python -m {name}", sys.argv[1:]))


def run_command(load: Callable[[], ModuleType], program: str, argv: Sequence[str]) -> int:
    """Runs one command line.

    Args:
      load: imports a module with `add_arguments(parser)`, `run(args) -> exit code`, and its help as docstring.
      program: what the user typed before the arguments, such as "geneface crop".
      argv: the arguments.

    Returns:
      The exit code: that of `run`, 2 after an InputError or where a file can't be written or read (one sentence on stderr), 130 after
      Ctrl-C, 143 after SIGTERM, 129 after SIGHUP (`exit_code` of the KeyboardInterrupt), 141 if the reader of stdout has left.

    Raises:
      SystemExit: 0 after --help, 2 for arguments that the parser refuses.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # silences the startup messages of MediaPipe and TensorFlow Lite
    make_printable()
    try:
        with signals_as_interrupts():
            module = load()  # here, because Ctrl-C may come during the import too
            args = parse(command_parser(module, program), argv)
            level = logging.DEBUG if hasattr(args, "verbose") else logging.WARNING if hasattr(args, "quiet") else logging.INFO
            set_up_logging(level)
            code = module.run(args)
            sys.stdout.flush()  # here, where a reader that has left is no traceback
            return code
    except InputError as error:
        sentence = str(error)
    except KeyboardInterrupt as stopped:
        print(f"\n{program}: stopped", file=sys.stderr)
        return getattr(stopped, "exit_code", 130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return 141
        from data_tools.io import disk_error_sentence  # imports numpy, which --help does not need

        if (found := disk_error_sentence(error)) is None:
            raise
        logging.getLogger(__name__).debug("the error in full", exc_info=True)
        sentence = found
    print(f"{program}: {sentence}", file=sys.stderr)
    return 2


def _reader_has_left() -> bool:
    """Whether the reader of stdout has gone (`geneface ... | head`); Python's own last flush is silenced then."""
    try:
        # What could not be written before is forgotten, so that something must be written to know.
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


class Stopped(KeyboardInterrupt):
    """A signal ended the command; what it had begun is cleaned up as after Ctrl-C. `exit_code` is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP (a closed terminal) in the block into `Stopped`, where their default would end the process at once.

    A second one ends it at once. Signals that are ignored (nohup) or handled already keep their effect; a training handles them itself.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Python lets only the main thread set handlers.
    taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL] if _in_main_thread() else []
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def command_parser(module: ModuleType, program: str) -> argparse.ArgumentParser:
    """The parser of a verb's or tool's module; it and its sub-commands have -v and -q."""
    parser = argparse.ArgumentParser(prog=program, description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    for each in _with_subparsers(parser):
        output = each.add_argument_group("messages").add_mutually_exclusive_group()
        # Suppressed defaults: those of a sub-command's parser would replace what was given before the sub-command.
        for short, long, text in (
            ("-v", "--verbose", "also show what is useful for finding a fault"),
            ("-q", "--quiet", "show warnings and errors only, no progress"),
        ):
            output.add_argument(short, long, action="store_true", default=argparse.SUPPRESS, help=text)
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parses `argv`; an unknown option is refused with the nearest known one.

    A parser with the default `overrides` (a verb that reads a config) gets every --config.key=value there.
    """
    args, rest = parser.parse_known_args(argv)
    unknown = [text for text in rest if not (text.startswith("--config.") and hasattr(args, "overrides"))]
    if unknown:
        actions = [action for each in _with_subparsers(parser) for action in each._actions if action.help != argparse.SUPPRESS]
        known = [option for action in actions for option in action.option_strings]
        nearest = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
        parser.error(f"unrecognized argument {unknown[0]}" + (f": did you mean {nearest[0]}?" if nearest else ""))
    if rest:
        args.overrides = rest
    return args


def _with_subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser, and those of its sub-commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


# -------- Logging and progress bars, for terminals and log files

PACKAGES = ("data_tools", "geneface_jax", "geneface_kernels")


class _StderrHandler(logging.Handler):
    """Writes messages to stderr as plain lines, above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


_HANDLER, _OTHERS = _StderrHandler(), _StderrHandler(logging.WARNING)
_OTHERS.addFilter(lambda record: not record.name.startswith(PACKAGES))


def set_up_logging(level: int = logging.INFO) -> None:
    """Sends the log of the three packages from `level` on to stderr. Above INFO (`-q`), progress bars stay hidden too.

    Of other libraries, only warnings are shown. (absl would add a handler of its own to a root logger that has none, and ours would come
    twice.)
    """
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(_OTHERS)
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


def option(
    default: Any,
    help: str,
    *,
    group: str = "",
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A dataclass field with its help text and either a range (`step` is for sliders) or a list of choices.

    `group` is the title below which --help shows it.
    """
    metadata = {"help": help, "group": group, "low": low, "high": high, "step": step, "choices": choices}
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
            metavar=None if meta["choices"] else {int: "N", float: "X"}.get(base_type(field), field.name.upper()),
            help=(meta["help"] + bounds + default).replace("%", "%%"),
        )


def given(args: argparse.Namespace, fields: Iterable[dataclasses.Field]) -> dict[str, Any]:
    """Values of the fields that were given on the command line."""
    return {field.name: getattr(args, field.name) for field in fields if hasattr(args, field.name)}


# -------- Options that several verbs and tools have; no heavy imports, so that --help is fast

FACE_MODELS = ("mediapipe", "bfm")
AUDIO_MODELS = ("mel_f0", "hubert", "whisper")
DEFAULT_FEATURES = "whisper"
"""The audio features of new datasets and corpora; data_tools alone always has mel_f0, since the others need a network."""
PREPARE_OUT = "subject folder; the dataset is written to DIR/dataset"


def add_prepare_arguments(parser: argparse.ArgumentParser, out: str, size: int = 512, features: str | None = DEFAULT_FEATURES) -> None:
    """Adds VIDEO, --out and the options of `data_tools.prepare.prepare`, which are named like its arguments.

    Args:
      parser: of a verb that prepares a video.
      out: help of --out.
      size: default of --size.
      features: default of --features; None: what --corpus-models hear.
    """
    add = parser.add_argument_group("input and output").add_argument
    add("video", metavar="VIDEO", help="video of one talking person, at least 3 s, preferably a minute")
    add("--out", type=Path, required=True, metavar="DIR", help=out)
    add("--trim", metavar="A-B", help="use only the seconds from A to B")
    add("--name", help="name of the person (default: the name of the folder)")
    add("--consent", metavar='"WHO, WHEN"', help="who agreed to this use, and when; kept in the dataset and the model card")
    add = parser.add_argument_group("pictures and face").add_argument
    add("--size", type=int, default=size, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    add("--face-model", default="mediapipe", choices=FACE_MODELS, help="face model that gives the landmarks (default %(default)s)")
    add("--bfm-folder", type=Path, metavar="DIR", help="folder with the files of the Basel face model, for --face-model bfm")
    add("--segmenter-model", type=Path, metavar="FILE", help="MediaPipe's selfie_multiclass_256x256.tflite, for finer masks")
    sound = add_features_arguments(parser, features)
    sound.add_argument(
        "--audio-offset", type=float, default=0.0, metavar="SECONDS", help="delay of the sound; the same as --fix-offset, in seconds"
    )
    sound.add_argument(
        "--fix-offset",
        type=_auto_or_milliseconds,
        metavar="auto|MS",
        help="delay the sound by MS milliseconds (negative: advance it), or by as much as the lips say (default: leave it)",
    )
    sound.add_argument("--track", type=int, metavar="N", help="sound track, from 1 (default: the first that is not silent)")
    add = parser.add_argument_group("machine").add_argument
    add("--workers", type=int, default=1, metavar="N", help="worker processes (default %(default)s); the result does not depend on it")
    add("--device", choices=("cpu", "gpu"), help="device for JAX, if it is used (default: JAX's own choice)")


OPTION_NAMES = (
    "size", "trim", "face_model", "bfm_folder", "audio_offset", "fix_offset", "track", "segmenter_model", "name", "consent", "workers",
    "device",
)  # fmt: skip


def _auto_or_milliseconds(text: str) -> str | float:
    """The value of --fix-offset."""
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number of milliseconds") from error


def add_features_arguments(parser: argparse.ArgumentParser, default: str | None = DEFAULT_FEATURES) -> argparse._ArgumentGroup:
    """Adds --features, with that default, and --hubert in a group "sound", which is returned."""
    group = parser.add_argument_group("sound")
    usual = "%(default)s" if default else f"those of --corpus-models; the shipped ones hear {DEFAULT_FEATURES}"
    group.add_argument("--features", default=default, choices=AUDIO_MODELS, help=f"audio features that the networks hear (default {usual})")
    where = "default: $GENEFACE_HUBERT, or ~/.cache/geneface_jax/hubert"
    group.add_argument("--hubert", metavar="DIR", help=f"folder of facebook/hubert-large-ls960-ft, for --features hubert ({where})")
    group.add_argument("--audio", nargs="?", action=_FormerAudio, help=argparse.SUPPRESS)
    return group


class _FormerAudio(argparse.Action):
    """Refuses `--audio FEATURES`, the former spelling of --features."""

    def __call__(self, parser, namespace, values, option_string=None):
        features = values if values in AUDIO_MODELS else "|".join(AUDIO_MODELS)
        raise InputError(
            f"--audio names a sound file, and `{parser.prog}` takes the sound of its video: to choose audio features, write "
            f"--features {features}."
        )


def check_features(args: argparse.Namespace, available: str | None = None, instead: str = "") -> None:
    """Checks --features and --hubert.

    Args:
      args: the parsed arguments.
      available: the name of the only features that can be had; None allows all.
      instead: the command that has the others, for the sentence.

    Raises:
      InputError: --hubert without `--features hubert`, or features that are not available.
    """
    if args.hubert and args.features != "hubert":
        raise InputError(f"--hubert is given with --features {args.features}: write --features hubert, or remove --hubert.")
    if available is not None and args.features != available:
        raise InputError(f"--features {args.features} needs a network that data_tools lacks: run `{instead}` with the same arguments.")


def add_video_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds the arguments of tools that analyze a video by themselves; `out` is the help of the output argument."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="a video of one person; sound is not needed")
    parser.add_argument("out", type=Path, metavar="OUT", help=out)
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    parser.add_argument("--trim", metavar="A-B", help="use only the seconds from A to B")
    parser.add_argument(
        "--segmenter-model", type=Path, metavar="FILE", help="MediaPipe's selfie_multiclass_256x256.tflite, for finer masks"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")
