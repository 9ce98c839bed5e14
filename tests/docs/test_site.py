"""The web site: it builds without a warning, needs nothing from elsewhere, and its links lead somewhere."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest
import yaml

from tests.docs.pages import ROOT, english, translations

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hooks():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield importlib.import_module("site_hooks")
    finally:
        sys.path.remove(str(ROOT / "scripts"))
        sys.modules.pop("site_hooks", None)


def build(site: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess:
    # ruff, which formats signatures, is looked for on PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", site]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def pages_of(site: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(site.rglob("*.html")):
        yield path.relative_to(site).as_posix(), path.read_text(encoding="utf-8")


def test_every_page_is_on_the_site(site):
    files = [page for page in english() if page.name != "README.md"] + [page for _, page in translations() if page.name != "README.zh.md"]
    names = [page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in files]
    assert len(names) > 30
    assert [name for name in [*names, "index.html", "zh/index.html", "contributing.html"] if not (site / name).is_file()] == []


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(https?:[^\s\">]+)|<link\b(?=[^>]*rel=\"?(?:stylesheet|preconnect))[^>]*href=\"?(https?:[^\s\">]+)"
    )
    assert [(name, found) for name, text in pages_of(site) for found in loaded.findall(text)] == []


def test_links_into_the_repository_lead_to_files(site, hooks):
    link = re.compile(rf'href="{re.escape(hooks.URLS["Repository"])}/(?:blob|tree)/main/([^"#]+)')
    found = {path for _, text in pages_of(site) for path in link.findall(text)}
    assert "docker/cpu.Dockerfile" in found and [path for path in found if not (ROOT / path).exists()] == []


def test_chinese_pages_say_that_they_are_chinese(site):
    for name, text in pages_of(site):
        language = re.search(r'<html lang="([\w-]+)"', text)[1]
        assert language == ("zh-Hans" if name.startswith("zh/") else "en"), name


def test_the_reference_describes_every_public_name(site, hooks):
    """mkdocs warns of a public name whose module no page shows; this asks for the words too."""
    module = importlib.import_module("geneface_jax")
    first = (site / "reference" / "names.html").read_text(encoding="utf-8")
    assert [name for name in module.__all__ if name != "__version__" and f"gf.{name}</code>" not in first] == []
    person = (site / "reference" / "person.html").read_text(encoding="utf-8")
    assert 'id="geneface_jax.inference.person.Person.speak"' in person
    summary = inspect.getdoc(importlib.import_module("geneface_jax.inference.person").Person).splitlines()[0]
    assert re.split(r"[`<&]", summary)[0] in person


@pytest.mark.parametrize(
    ("text", "message"),
    [("[a](install.md#no-such-heading)", "no-such-heading"), ("[a](nothing.md)", "nothing.md"), ("[a](../nothing.py)", "nothing.py")],
)
def test_a_dead_link_fails_the_build(tmp_path, text, message):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "install.md").write_text(f"# Page\n{text}\n", encoding="utf-8")
    config = {key: CONFIG[key] for key in ("site_name", "use_directory_urls", "markdown_extensions", "validation")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump({**config, "hooks": [str(tmp_path / "hooks.py")]}), encoding="utf-8")
    code = "import sys; sys.path.insert(0, {!r}); from site_hooks import on_config, on_page_markdown\n".format(str(ROOT / "scripts"))
    (tmp_path / "hooks.py").write_text(code, encoding="utf-8")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode == 1 and message in done.stderr, done.stderr
    (docs / "install.md").write_text("# Page\n[a](install.md#page)\n", encoding="utf-8")
    assert build(tmp_path / "site", tmp_path / "mkdocs.yml").returncode == 0


@pytest.mark.parametrize(
    ("target", "source", "page", "link"),
    [
        ("docs/install.md#cpu", "README.md", "index.md", "install.md#cpu"),
        ("docs/images/avatar.png", "README.md", "index.md", "images/avatar.png"),
        ("README.zh.md", "README.md", "index.md", "zh/index.md"),
        ("docs/zh/install.md", "README.zh.md", "zh/index.md", "install.md"),
        ("../install.md", "docs/zh/install.md", "zh/install.md", "../install.md"),
        ("../../README.md", "docs/zh/install.md", "zh/install.md", "../index.md"),
        ("../CONTRIBUTING.md#rules", "docs/install.md", "install.md", "contributing.md#rules"),
        ("../configs", "docs/training.md", "training.md", "REPOSITORY/tree/main/configs"),
        ("../../docker/cpu.Dockerfile", "docs/zh/install.md", "zh/install.md", "REPOSITORY/blob/main/docker/cpu.Dockerfile"),
        ("../../actions/workflows/tests.yml/badge.svg", "README.md", "index.md", "REPOSITORY/actions/workflows/tests.yml/badge.svg"),
        ("#cpu", "docs/install.md", "install.md", "#cpu"),
        ("https://example.org/a#b", "docs/install.md", "install.md", "https://example.org/a#b"),
        ("../nothing.py", "docs/install.md", "install.md", "../nothing.py"),
    ],
)
def test_links_are_those_of_the_site(hooks, target, source, page, link):
    assert hooks.site_link(target, source, page) == link.replace("REPOSITORY", hooks.URLS["Repository"])


def test_lists_and_tables_need_no_empty_line_before_them(hooks):
    text = "Words:\n- one\n- two\n\n```text\nWords:\n- [a](../configs)\n```\nWords:\n| a |\n|---|\n"
    adapted = hooks.adapt(text, "install.md")
    assert adapted == "Words:\n\n- one\n- two\n\n```text\nWords:\n- [a](../configs)\n```\nWords:\n\n| a |\n|---|\n"


def functions(module: griffe.Module) -> Iterator[griffe.Function]:
    todo = list(module.members.values())
    while todo:
        found = todo.pop()
        if found.is_alias:
            continue
        if found.is_function:
            yield found
        elif found.is_class:
            todo.extend(found.members.values())


def undocumentable(function: griffe.Function) -> list[str]:
    """Arguments that a docstring describes and the function does not have."""
    sections = function.docstring.parse("google", warnings=False) if function.docstring else []
    documented = [item.name for section in sections if section.kind is griffe.DocstringSectionKind.parameters for item in section.value]
    names = {parameter.name for parameter in function.parameters}
    return [name for names_of_one in documented for name in re.split(r",\s*", names_of_one) if name.lstrip("*") not in names]


def test_documented_arguments_exist(hooks):
    loader = griffe.GriffeLoader(search_paths=[ROOT, ROOT / "kernels"])
    for package in ("geneface_kernels", "geneface_jax", "data_tools"):
        loader.load(package)
    checked = 0
    for module in [name for modules in hooks.REFERENCE.values() for name in modules]:
        for function in functions(loader.modules_collection[module]):
            assert undocumentable(function) == [], function.path
            checked += 1
    assert checked > 100
    with griffe.temporary_visited_module('def f(a):\n    """Does.\n\n    Args:\n      a, b: numbers.\n    """\n') as module:
        assert undocumentable(module["f"]) == ["b"]
