"""`geneface VERB ...`: finds the module of a verb and runs it.

Nothing heavy is imported before a verb is known, so `geneface --help` answers at once.
Exit codes: 0 done, 1 a check failed (doctor) or a run did (sweep), 2 wrong input or a place that can't be written, 130 Ctrl-C, 143 SIGTERM.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from data_tools.errors import make_printable
from geneface_jax import __version__

TUNABLE = "glibc.malloc.hugetlb=1"
MIN_GLIBC = (2, 35)


def restart(argv: Sequence[str]) -> None:
    """Restarts this command line with huge pages for XLA's buffers; returns when that is not possible or already the case.

    A training step allocates and frees a few hundred megabytes; with 4 kB pages a quarter of the processor's time went into page faults
    (59,000 a step measured on two cores, 410 with huge pages). glibc only takes the setting from the environment of a new process.
    -P: the current folder, which may hold a clone called geneface_jax or files named like modules, is no place to import from.
    """
    if not sys.platform.startswith("linux") or TUNABLE in os.environ.get("GLIBC_TUNABLES", "") or not _glibc_is_recent():
        return
    present = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = f"{present}:{TUNABLE}" if present else TUNABLE
    os.execv(sys.executable, [sys.executable, "-P", "-m", "geneface_jax", *argv])


def _glibc_is_recent() -> bool:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError, AttributeError):
        return False
    return name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= MIN_GLIBC


GROUPS = {
    "make a person": {
        "fit": "prepare a video and train its postnet, head and torso in one resumable command",
        "prepare": "turn a talking video into a subject dataset",
        "prepare-corpus": "turn many videos of many speakers into a corpus for SyncNet and audio2motion",
        "bake": "find what of a person never shows, so that rendering skips it",
        "import-torch": "turn a checkpoint of GeneFace or GeneFace++ into a work folder",
    },
    "make videos": {
        "infer": "make a video of a trained person saying what is heard in a recording",
        "live": "speak into a microphone and watch the person speak, at once, without a browser",
        "app": "open the web page: make videos, train people, inspect PostNets",
        "compose": "paste a video of infer back into the uncropped original",
        "landmarks": "draw a landmark sequence as a video, next to the truth where it exists",
        "export": "write a trained person as plain files: weights, config, card, and the render step",
    },
    "train and measure": {
        "train": "train one stage from a config; resumes by itself",
        "sweep": "train many variants of a config in parallel and compare them in a table",
        "select-postnet": "choose the PostNet checkpoint that inference uses, with the reasons",
        "evaluate": "measure a trained person or a video against the truth",
    },
    "data tools": {
        "crop": "cut the square with the talking head out of a video",
        "audio": "measure and convert a recording, write its features",
        "face": "write landmarks, head pose and blinks of a video",
        "segmentation": "write head masks, torso images and part labels of a video",
        "background": "write the picture behind the person of a video",
        "report": "write a dataset's report.html again",
        "light": "copy the files of a dataset that inference needs",
        "avatar": "render the avatar's videos and corpus, with exact ground truth",
    },
    "other": {"doctor": "show what is installed, what is missing, and the command that fixes it"},
}
"""Title -> verb -> one line of help. `cli/<verb>.py` has `add_arguments(parser)` and `run(args) -> exit code`."""
VERBS = {verb: line for verbs in GROUPS.values() for verb, line in verbs.items()}
ELSEWHERE = {
    **{verb: f"data_tools.{verb}" for verb in ("compose", "crop", "segmentation", "background", "light")},
    **{verb: f"data_tools.{verb}.__main__" for verb in ("audio", "face")},
    "report": "data_tools.dataset.__main__",
}
"""Verb -> module, where that is a tool which also runs as `python -m data_tools.TOOL`."""
HEAVY = ("train", "fit", "bake", "infer", "live", "evaluate", "app")
"""Verbs that are worth a restart with huge pages."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    make_printable()
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
        print(f"geneface: There is no verb {verb!r}: {hint}", file=sys.stderr)
        return 2
    if from_shell and verb in HEAVY:
        restart(argv)
    from data_tools.command_line import run_command  # imports tqdm, which `geneface --help` does not need

    if verb not in ELSEWHERE and not {"-h", "--help"} & {*argv}:
        from geneface_jax.io.compilation_cache import keep_programs

        keep_programs()
    return run_command(lambda: verb_module(verb), f"geneface {verb}", argv[1:])


def verb_module(verb: str) -> ModuleType:
    """The module of a verb: `add_arguments(parser)`, `run(args) -> exit code`, and its help as docstring."""
    return importlib.import_module(ELSEWHERE.get(verb, f"geneface_jax.cli.{verb.replace('-', '_')}"))


def _help() -> str:
    width = max(map(len, VERBS))
    lines = ["usage: geneface VERB ...", "", "From a talking video to new talking videos.", ""]
    for title, verbs in GROUPS.items():
        lines += [f"{title}:", *(f"  {verb:<{width}}  {text}" for verb, text in verbs.items()), ""]
    return "\n".join([*lines, "`geneface VERB --help` says more."])
