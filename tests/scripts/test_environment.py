"""scripts/environment.py: installs once, again when the requirements change, and prints a remedy when it can't."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    yield importlib.import_module("environment")
    sys.modules.pop("environment", None)


@pytest.fixture
def clone(tmp_path):
    for name in ("pyproject.toml", "requirements.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def pip(environment, monkeypatch):
    """What pip was asked to install; it installs nothing, and `pip.code` is how it ends."""
    real = subprocess.run

    class Pip(list):
        code = 0

    asked = Pip()

    def run(command, **options):
        words = [str(word) for word in command]
        if words[1:3] != ["-m", "pip"]:
            return real(command, **options)
        asked.append(words[-1])
        return subprocess.CompletedProcess(words, asked.code)

    monkeypatch.setattr(environment.subprocess, "run", run)
    monkeypatch.setattr(environment, "python_in", lambda venv: venv.mkdir(exist_ok=True) or Path(sys.executable))
    return asked


def test_the_clone_is_installed_once_and_again_when_its_requirements_change(environment, clone, pip, capfd):
    environment.prepare(root=clone)
    environment.prepare(root=clone)
    assert pip == ["."]
    (clone / "requirements.txt").write_text("another")
    environment.prepare(root=clone)
    environment.prepare("test", root=clone)
    environment.prepare("test", root=clone)
    assert pip == [".", ".", ".[test]"]
    assert "+ pip install -e .[test]" in capfd.readouterr().err


def test_a_failed_installation_is_tried_again(environment, clone, pip, capfd):
    pip.code = 1
    with pytest.raises(environment.SetupError, match="pip could not install"):
        environment.prepare(root=clone)
    pip.code = 0
    environment.prepare(root=clone)
    assert pip == [".", "."]


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 14, 0)])
def test_a_python_that_will_not_do_makes_no_environment(environment, clone, monkeypatch, version):
    monkeypatch.setattr(environment.sys, "version_info", version)
    with pytest.raises(environment.SetupError, match=f"This is Python {'.'.join(map(str, version))}: run it with 3.11, 3.12 or 3.13"):
        environment.prepare(root=clone)
    assert not (clone / ".venv").exists()


def test_every_file_allows_the_same_pythons(environment):
    requires = SpecifierSet(re.search(r'^requires-python = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1])
    shell = (ROOT / "scripts" / "environment.sh").read_text()
    first, end = (
        tuple(map(int, re.search(rf'^{name}="(\d+), (\d+)"', shell, re.MULTILINE).groups())) for name in ("MIN_PYTHON", "END_PYTHON")
    )
    assert (first, end) == (environment.MIN_PYTHON, environment.END_PYTHON)
    allowed = [minor for minor in range(30) if f"3.{minor}" in requires]
    assert (3, allowed[0]) == first and (3, allowed[-1] + 1) == end


@pytest.mark.parametrize(("root", "lines"), [(False, []), (True, ["update -qq", "install -y --no-install-recommends libegl1 -qq"])])
def test_missing_libraries_are_installed_by_root_and_named_to_others(environment, monkeypatch, capfd, root, lines):
    missing, ran = ["libegl1"], []

    def run(command, **_):
        ran.append(" ".join(command[1:]))
        if command[1] == "install":
            missing.clear()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(environment, "missing_packages", lambda python, root: list(missing))
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(environment.os, "geteuid", lambda: 0 if root else 1000, raising=False)
    monkeypatch.setattr(environment.subprocess, "run", run)
    still = environment.ensure_system_libraries(Path(sys.executable))
    assert ran == lines and still == ([] if root else ["libegl1"])
    assert "apt-get update && apt-get install -y --no-install-recommends libegl1" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="bash scripts")
def test_the_shell_scripts_parse():
    for path in (ROOT / "scripts").glob("*.sh"):
        subprocess.run(["bash", "-n", str(path)], check=True)
