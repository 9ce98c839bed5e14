"""What the repository needs in public: workflows, forms and hooks that fit their schemas, a lock that fits the requirements, one owner."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from geneface_jax import system_libraries
from geneface_jax.cli import main as cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYTHONS = ("3.11", "3.12", "3.13")
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-issue-forms": [ROOT / ".github" / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")],
    "vendor.github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.dependabot": [ROOT / ".github" / "dependabot.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}
MAJOR_VERSIONS = {
    "actions/cache": 4,
    "actions/checkout": 4,
    "actions/deploy-pages": 4,
    "actions/setup-python": 5,
    "actions/upload-artifact": 4,
    "actions/upload-pages-artifact": 3,
}


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def requirements(*extras: str) -> Iterator[Requirement]:
    """Those of requirements.txt, or of extras, which may name each other."""
    lines = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            yield from requirements(*requirement.extras)
        else:
            yield requirement


# -------- Schemas


def schema_errors(schema: str, files: list[Path]) -> str:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_fit_their_schemas(schema):
    assert schema_errors(schema, SCHEMAS[schema]) == ""


def test_a_workflow_that_does_not_fit_is_noticed(tmp_path):
    wrong = tmp_path / "tests.yml"
    wrong.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "run-on:"), encoding="utf-8")
    assert "run-on" in schema_errors("vendor.github-workflows", [wrong])


def test_the_hooks_before_a_commit_are_valid_and_use_the_versions_of_the_tests():
    config = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", config], check=True)
    hooks = [hook for repository in read(config)["repos"] for hook in repository["hooks"]]
    assert {"ruff-check", "ruff-format", "mypy", "check-yaml", "end-of-file-fixer", "check-added-large-files", "workflows"} <= {
        hook["id"] for hook in hooks
    }
    ours = {requirement.name: requirement.specifier for requirement in requirements("test")}
    named = [Requirement(text) for hook in hooks for text in hook.get("additional_dependencies", [])]
    assert {one.name for one in named} == {"ruff", "check-jsonschema", "pre-commit-hooks"}
    assert all(one.specifier == ours.get(one.name, one.specifier) for one in named)


# -------- Workflows


def steps(workflow: dict) -> Iterator[dict]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def command_lines(workflow: dict) -> list[list[str]]:
    """The words of every command; expressions of GitHub's are one word."""
    lines = "\n".join(step.get("run", "") for step in steps(workflow)).replace("\\\n", " ").splitlines()
    return [words for line in lines for part in re.split(r"&&|\|", line) if (words := shlex.split(part, comments=True))]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflow:
    def test_it_may_do_no_more_than_it_needs(self, path):
        workflow = read(path)
        assert workflow["permissions"] == {"contents": "read"} and workflow["concurrency"]["group"]
        assert "pull_request_target" not in workflow[True]  # YAML 1.1 reads `on` as a boolean
        for name, job in workflow["jobs"].items():
            writes = {scope for scope, level in job.get("permissions", {}).items() if level == "write"}
            assert writes == ({"pages", "id-token"} if name == "publish" else set())
            assert not writes or "vars.PUBLISH_DOCS == 'true'" in job["if"]
        assert all(step["with"]["persist-credentials"] is False for step in steps(workflow) if "checkout" in step.get("uses", ""))
        # An expression inside a script would let whoever names a branch write commands.
        assert not any("${{" in step.get("run", "") for step in steps(workflow))

    def test_its_actions_have_known_major_versions(self, path):
        used = dict(step["uses"].split("@") for step in steps(read(path)) if "uses" in step)
        assert used and all(version == f"v{MAJOR_VERSIONS[name]}" for name, version in used.items())

    def test_the_files_that_it_names_are_there(self, path):
        text = re.sub(r"^\s*#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        named = re.findall(r"(?<![\w-])(?:(?:scripts|data_tools|docs|tests|configs)/[\w./-]+|[\w-]+\.(?:txt|lock|toml))", text)
        assert named and [name for name in named if not (ROOT / name).is_file()] == []

    def test_its_commands_are_known(self, path):
        site = {Requirement(text).name for text in PROJECT["optional-dependencies"]["docs"]}
        for words in command_lines(read(path)):
            match words:
                case ["geneface", verb, *_]:
                    assert verb in cli.VERBS
                case ["pip", "install", "-c", "requirements.lock", *packages]:
                    assert {Requirement(text).name for text in packages} == site
                case ["pip", "install", what]:
                    assert what in {"build>=1.2,<2", "$GITHUB_WORKSPACE/dist/*.whl"}
                case ["sudo", "apt-get", "install", "-y", *packages]:
                    assert packages == ["--no-install-recommends", *system_libraries.LIBRARIES.values()]
                case [script, *arguments] if script.startswith("./"):
                    assert (ROOT / script).is_file() and arguments in ([], ["--all"])
                case ["mkdocs", *arguments]:
                    assert arguments == ["build", "--strict"] and (ROOT / "mkdocs.yml").is_file()
                case _:
                    assert words[0] in {"cd", "echo", "grep", "mkdir", "python", "sha256sum", "source", "sudo"}, words


def test_the_tests_run_on_every_supported_python():
    (job,) = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"].values()
    minors = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(PROJECT["requires-python"])]
    classifiers = [text.rsplit(" ", 1)[1] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", text)]
    assert job["strategy"]["matrix"]["python"] == minors == classifiers == list(PYTHONS)


def test_the_bug_form_asks_for_what_is_needed_to_reproduce():
    fields = {field["id"]: field for field in read(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml")["body"] if "id" in field}
    assert fields["command"]["validations"]["required"] and fields["doctor"]["validations"]["required"]
    assert "geneface doctor" in fields["doctor"]["attributes"]["label"]


# -------- The lock


def pins(environment: dict[str, str]) -> dict[str, str]:
    """Package -> the locked version there."""
    found: dict[str, str] = {}
    for line in LOCK.splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and requirement.name not in found, line
            found[requirement.name.lower()] = specifier.version
    return found


@pytest.mark.parametrize(("python", "system"), list(itertools.product(PYTHONS, ["linux", "darwin", "win32"])))
def test_the_lock_satisfies_the_requirements(python, system):
    environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": system, "platform_machine": "x86_64"}
    locked = pins(environment)
    needed = [one for one in requirements("ui", "docs", "test") if one.marker is None or one.marker.evaluate(environment)]
    assert len(needed) > 25
    for requirement in needed:
        assert requirement.specifier.contains(locked[requirement.name.lower()], prereleases=True), requirement


def test_the_lock_names_no_servers_and_how_it_was_made():
    assert "://" not in LOCK and not re.search(r"^-", LOCK, re.MULTILINE)
    (command,) = re.findall(r"^# +(uv pip compile .+)$", LOCK, re.MULTILINE)
    assert command in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("\\\n", "")
    words = command.split()
    assert [words[at + 1] for at, word in enumerate(words) if word == "--extra"] == ["ui", "docs", "test"]


# -------- The owner


def tracked() -> list[Path]:
    """Every file that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_the_owner_is_written_in_one_place():
    urls = PROJECT["urls"]
    owner, name = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", urls["Repository"]).groups()
    assert name == PROJECT["name"]
    assert all(owner in url for url in urls.values())
    assert all(urls[key].startswith(urls["Repository"] + "/") for key in ("Issues", "Changelog"))
    needles = [f"{owner}/{name}".encode(), f"{owner}.github.io".encode()]
    holders = {path.relative_to(ROOT).as_posix() for path in tracked() if any(needle in path.read_bytes() for needle in needles)}
    assert holders == {"pyproject.toml"}
    table = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.urls]\n")[1].split("\n[")[0]
    assert json.dumps(urls["Repository"]) in table


def test_private_reports_go_through_the_form():
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "](../../security/advisories/new)" in text and "@" not in text
