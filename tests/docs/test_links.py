"""What the pages point at is there: links, their headings, and files of the repository that they name."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, english, prose, translations

HABITS = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
OTHERS = (*HABITS, "checkpoints/README.md", "checkpoints/demo/card.md")
PAGES = [*english(), *(page for _, page in translations()), *(ROOT / name for name in OTHERS if (ROOT / name).is_file())]
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z]+:|\.\./\.\./(actions|issues|releases|security)\b")
"""Addresses, and pages of the repository on GitHub as a file at its top links them."""
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_FOLDERS = "configs|data_tools|docs|geneface_jax|kernels|scripts|tests"
_NAMED = re.compile(rf"(?<![\w/.-])((?:{_FOLDERS})/[\w./-]*\.(?:py|sh|md|json|png|wav|html))\b")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    headings = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", found) for found in _HEADING.findall(prose(page))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The page's links to places in the repository that are not there."""
    found = []
    for target in _LINK.findall(prose(page)):
        if _ELSEWHERE.match(target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_of_the_repository_that_is_named_exists(page):
    names = _NAMED.findall(page.read_text(encoding="utf-8"))
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for page in english() if (name := named(page)) != "README.md" and f"]({name})" not in text] == []


def test_a_broken_link_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One page\n[a](#one-page) [b](#two) [c](other.md) [d](https://example.org)\n", encoding="utf-8")
    assert broken(page) == ["#two", "other.md"]


def columns(text: str) -> int:
    """Width of a line; Chinese characters take two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "card.md"], ids=named)
def test_lines_fit_on_a_screen(page):
    """120 columns at most, but for the rows of a table that a test generates; cards are generated too."""
    lines = re.sub(r"<!-- bad inputs.*?<!-- end of bad inputs -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL).splitlines()
    assert [line for line in lines if columns(line) > 120] == []


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
