"""scripts/demo.py: the right commands in the right order, failures told by exit code, the video's path last."""

from __future__ import annotations

import argparse
import ast
import importlib
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from geneface_jax.cli import main as cli

SCRIPTS = Path(__file__).parents[2] / "scripts"
PYTHON = Path("bin", "python")


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    yield importlib.import_module("demo")
    for name in ("demo", "environment"):
        sys.modules.pop(name, None)


def parse(command: list[str]) -> argparse.Namespace:
    """The command's options as the program that it calls reads them."""
    assert command[0] == str(PYTHON)
    if command[1] != "-m":
        assert (SCRIPTS.parent / command[1]).is_file()
        return argparse.Namespace(what=Path(command[1]).name)
    assert command[2] == "geneface_jax"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    cli.verb_module(command[3]).add_arguments(parser)
    return argparse.Namespace(what=command[3], **vars(parser.parse_args(command[4:])))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"train": False, "compare": True, "rendered": False}, ["infer", "avatar", "prepare", "evaluate"]),
        ({"train": False, "compare": True, "rendered": True}, ["infer", "prepare", "evaluate"]),
        ({"train": True, "compare": True, "rendered": False}, ["train_demo.py", "infer", "avatar", "prepare", "evaluate"]),
        ({"train": False, "compare": False, "rendered": False}, ["infer"]),
    ],
)
def test_the_steps_are_understood_by_the_programs_they_call(demo, options, steps):
    assert [parse(command).what for command in demo.plan(PYTHON, **options)] == steps


def test_each_step_reads_what_is_there_or_was_made_before(demo):
    infer, avatar, prepare, evaluate = map(parse, demo.plan(PYTHON, train=False, compare=True, rendered=False))
    root = SCRIPTS.parent
    assert (root / infer.audio).is_file() and (root / infer.subject).is_dir()
    assert infer.out == str(demo.VIDEO)
    assert avatar.out / "video.mp4" == Path(prepare.video)
    assert Path(evaluate.against) == Path(prepare.out) / "dataset"
    assert evaluate.subject == infer.subject and evaluate.protocol == "audio"


def test_a_step_that_fails_ends_the_demo_with_its_code(demo, monkeypatch, capfd):
    codes = iter([3, 0])
    monkeypatch.setattr(demo, "prepare", lambda: PYTHON)
    monkeypatch.setattr(demo, "ensure_system_libraries", lambda python: [])
    monkeypatch.setattr(demo.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], next(codes)))
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    assert demo.main() == 3
    assert next(codes) == 0, "one step was run, no second"
    assert not capfd.readouterr().out


def test_without_the_libraries_the_video_is_made_all_the_same(demo, monkeypatch, capfd):
    commands = []
    monkeypatch.setattr(demo, "prepare", lambda: PYTHON)
    monkeypatch.setattr(demo, "ensure_system_libraries", lambda python: ["libegl1"])
    monkeypatch.setattr(demo.subprocess, "run", lambda command, **_: commands.append(command) or subprocess.CompletedProcess([], 0))
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    assert demo.main() == 0
    assert [parse(command).what for command in commands] == ["infer"]
    said = capfd.readouterr()
    assert said.out.splitlines()[-1] == str(demo.ROOT / "out" / "demo.mp4")
    assert "left out" in said.err


def test_an_unknown_argument_is_refused_before_anything_is_made(demo, monkeypatch, capsys):
    monkeypatch.setattr(demo, "prepare", lambda: pytest.fail("the environment was made"))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--trian"])
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 2 and "--trian" in capsys.readouterr().err


def test_the_environment_s_python_is_where_the_system_puts_it(demo):
    environment = sys.modules["environment"]
    assert environment.python_in(PureWindowsPath("C:/clone/.venv"), windows=True) == PureWindowsPath("C:/clone/.venv/Scripts/python.exe")
    assert environment.python_in(Path("/clone/.venv"), windows=False) == Path("/clone/.venv/bin/python")


@pytest.mark.parametrize("name", ["demo.py", "environment.py"])
def test_nothing_but_the_standard_library_is_needed_before_the_installation(name):
    for node in ast.walk(ast.parse((SCRIPTS / name).read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert {str(found).split(".")[0] for found in names} <= sys.stdlib_module_names | {"environment"}
