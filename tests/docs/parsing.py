"""Puts a documented command line through the parser that will read it, without running the command."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import pytest

from geneface_jax import system_libraries
from geneface_jax.cli import main as cli
from geneface_jax.inference import controls
from geneface_jax.io import configs, restore
from geneface_jax.training import sweep
from tests.docs.pages import ROOT, Command

THEIRS = ("checkpoints/lrs3", "checkpoints/May", "checkpoints/audio2motion_vae", "checkpoints/motion2video_nerf")
"""Folders of the originals' releases, which lie in a user's folder of that name."""
SHELL = (
    "source .venv/bin/activate",
    "python3 -m venv .venv",
    "apt-get update",
    "code=$?",
    "[ $code = 143 ]",
    "scontrol requeue $SLURM_JOB_ID",
    "exit $code",
)
"""Lines that are the shell's, or a program's whose parser is not ours, word for word."""
OTHER_PACKAGES = ("tensorboard",)
"""Packages that a page may tell users to install by name."""
_OURS = re.compile(r"(?:\./)?(?:configs|scripts|data_tools|docs|tests|checkpoints)/")


class Parsed(BaseException):
    """Ends a program as soon as its parser has read the arguments."""

    def __init__(self, args: argparse.Namespace, rest: Sequence[str]):
        self.found, self.rest = args, list(rest)  # `args` is the exception's own


def check(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises InputError or AssertionError, or leaves by SystemExit, where the command line is not one that the program takes."""
    words = list(command.words)
    for word in words:
        path = word.split("=")[-1]
        if _OURS.match(path) and path not in THEIRS:
            assert (ROOT / re.sub(r":\w+$", "", path)).exists(), f"{path} is not in the repository"
    if " ".join(words) in SHELL:
        return
    match words:
        case ["geneface", *argv]:
            _geneface(argv, monkeypatch)
        case ["python", "-m", module, *argv]:
            _, rest = _parsed(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True), module, argv)
            assert not rest
        case ["python", script, *argv]:
            monkeypatch.syspath_prepend((ROOT / script).parent)
            _, rest = _parsed(lambda: runpy.run_path(str(ROOT / script), run_name="__main__"), script, argv)
            assert not rest
        case ["tensorboard", "--logdir", _]:
            pass
        case ["pip", "install", "-e", what]:
            extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
            known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
            assert extra and extra[1] in {None, *known}, f"there is no extra {what}"
        case ["pip", "install", package]:
            assert package in OTHER_PACKAGES
        case ["apt-get", "install", "-y", *packages]:
            assert packages == list(system_libraries.LIBRARIES.values())
        case ["curl", "--data-binary", _, address, ">", _]:
            fields = re.fullmatch(r"http://127\.0\.0\.1:7860/api/stream\?person=demo&(\w+)=([\d.]+)", address)
            assert fields and controls.Controls(**{fields[1]: float(fields[2])}).validate()
        case [script] | [script, "--train"] | [script, "--all"]:
            assert script.startswith("./scripts/") and script.endswith(".sh"), f"{command} is no program that the pages may name"
        case _:
            raise AssertionError(f"{command} is no program that the pages may name: tests/docs/parsing.py must say how it is read")


def _geneface(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb's own parser, then what it looks at before it does anything."""
    verb = argv[0]
    assert verb in cli.VERBS, f"there is no verb {verb}"
    module = cli.verb_module(verb)
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(module, "run", lambda args: seen.append(args) or 0)
    assert cli.main(argv) == 0
    (args,) = seen
    if verb == "train":
        configs.load(args.config, args.overrides)
        restore.parse_renames(args.init_rule, args.init_rename)
    if verb == "sweep":
        assert sweep.trials(configs.load(args.file), [text.removeprefix("--config.") for text in args.overrides])
    if verb == "infer":
        controls.from_args(args)


def _parsed(run: Callable[[], object], name: str, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What a program's parser makes of its arguments."""
    # A script may ask for eight devices, which the tests that come after it must not have.
    with _stopping_after_parsing(), pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        patch.setattr(sys, "argv", [name, *argv])
        patch.setattr(sys, "path", list(sys.path))
        try:
            run()
        except Parsed as parsed:
            return parsed.found, parsed.rest
    raise AssertionError(f"{name} read no arguments")


@contextmanager
def _stopping_after_parsing() -> Iterator[None]:
    """Inside, the outermost call of argparse's two readers raises `Parsed` with what it would have returned."""
    depth = 0

    def stopping(original: Callable, whole: bool) -> Callable:
        def read(self, args=None, namespace=None):
            nonlocal depth
            depth += 1
            try:
                found = original(self, args, namespace)
            finally:
                depth -= 1
            if depth == 0:
                raise Parsed(*((found, ()) if whole else found))
            return found

        return read

    parser = argparse.ArgumentParser
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser, "parse_args", stopping(parser.parse_args, True))
        patch.setattr(parser, "parse_known_args", stopping(parser.parse_known_args, False))
        yield
