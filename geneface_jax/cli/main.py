"""`geneface VERB ...`: finds the module of a verb, and turns exceptions into sentences and exit codes.

Nothing heavy is imported before a verb is known, so `geneface --help` answers at once.
Exit codes: 0 done, 1 a check failed (doctor), 2 wrong input, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import difflib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from data_tools.errors import InputError
from geneface_jax import __version__

TUNABLE = "glibc.malloc.hugetlb=1"
MIN_GLIBC = (2, 35)


def restart(argv: Sequence[str]) -> None:
    """Restarts this command line with huge pages for XLA's buffers; returns when that is not possible or already the case.

    A training step allocates and frees a few hundred megabytes; with 4 kB pages a quarter of the processor's time went into page faults
    (59,000 a step measured on two cores, 410 with huge pages). glibc only takes the setting from the environment of a new process.
    """
    if not sys.platform.startswith("linux") or TUNABLE in os.environ.get("GLIBC_TUNABLES", "") or not _glibc_is_recent():
        return
    present = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = f"{present}:{TUNABLE}" if present else TUNABLE
    os.execv(sys.executable, [sys.executable, "-m", "geneface_jax", *argv])


def _glibc_is_recent() -> bool:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError, AttributeError):
        return False
    return name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= MIN_GLIBC


VERBS = {
    "prepare": "turn a talking video into a subject dataset",
    "prepare-corpus": "turn many videos of many speakers into a corpus for SyncNet and audio2motion",
    "train": "train one stage from a config; resumes by itself",
    "select-postnet": "choose the PostNet checkpoint that inference uses, with the reasons",
    "fit": "prepare a video and train its postnet, head and torso in one resumable command",
    "infer": "make a video of a trained person saying what is heard in a recording",
    "compose": "paste such a video back into the uncropped original",
    "landmarks": "draw a landmark sequence as a video, beside the truth where it exists",
    "import-torch": "turn a checkpoint of GeneFace or GeneFace++ into a work folder",
    "export": "write a trained person as plain files: weights, config, card, and the render step",
    "evaluate": "measure a trained person or a video against the truth",
    "app": "open the web page: make videos, train people, inspect PostNets",
    "doctor": "show what is installed, what is missing, and the command that mends it",
}
"""Verb -> one line of help; the verb's file is `cli/<verb>.py` with `add_arguments(parser)` and `run(args) -> exit code`."""
ELSEWHERE = {"compose": "data_tools.compose"}
"""Verbs whose functions stand with a tool that also runs by itself."""
HEAVY = ("train", "fit", "infer", "evaluate", "app")
"""Verbs that are worth a restart with huge pages."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    from_shell = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"geneface_jax {__version__}")
        return 0
    verb = argv[0]
    if verb not in VERBS:
        nearest = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"did you mean `geneface {nearest[0]}`?" if nearest else "`geneface --help` lists the verbs."
        print(f"geneface: there is no verb {verb!r}: {hint}", file=sys.stderr)
        return 2
    if from_shell and verb in HEAVY:
        restart(argv)
    os.environ.setdefault("GLOG_minloglevel", "2")  # MediaPipe and TensorFlow Lite otherwise greet on stderr
    try:
        return _run(verb, argv[1:])
    except InputError as error:
        sentence = str(error)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        sentence = f"the disk is full{where}: free some space and run the same command again, what is finished is kept."
    except KeyboardInterrupt:
        print(f"\ngeneface {verb}: stopped", file=sys.stderr)
        return 130
    print(f"geneface {verb}: {sentence}", file=sys.stderr)
    return 2


def verb_module(verb: str) -> ModuleType:
    """The module of a verb: `add_arguments(parser)`, `run(args) -> exit code`, and its help as docstring."""
    return importlib.import_module(ELSEWHERE.get(verb, f"geneface_jax.cli.{verb.replace('-', '_')}"))


def _run(verb: str, argv: Sequence[str]) -> int:
    module = verb_module(verb)
    parser = argparse.ArgumentParser(prog=f"geneface {verb}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    output = parser.add_argument_group("output").add_mutually_exclusive_group()
    output.add_argument("-v", "--verbose", action="store_true", help="also show what is useful for finding a fault")
    output.add_argument("-q", "--quiet", action="store_true", help="show warnings and errors only, no progress")
    args, rest = parser.parse_known_args(argv)
    # A verb that trains declares `overrides` (a default of its parser) and gets every --config.key=value there.
    unknown = [text for text in rest if not (text.startswith("--config.") and hasattr(args, "overrides"))]
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        nearest = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
        parser.error(f"unrecognised argument {unknown[0]}" + (f": did you mean {nearest[0]}?" if nearest else ""))
    if rest:
        args.overrides = rest
    verbose, quiet = vars(args).pop("verbose"), vars(args).pop("quiet")
    # tqdm, which the log is written through, is not needed for --help.
    from data_tools.command_line import set_up_logging

    set_up_logging(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    return module.run(args)


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        ["usage: geneface VERB ...", "", "From a talking video to new talking videos.", "", *lines, "", "`geneface VERB --help` says more."]
    )
