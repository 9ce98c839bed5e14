"""Version, changelog and citation say the same; the citation is a valid one."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
import yaml

import geneface_jax

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def releases() -> list[tuple[str, str]]:
    """(version, date) of every release in the changelog, newest first."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)


def test_the_newest_release_is_this_version_everywhere(citation, releases):
    version, date = releases[0]
    assert geneface_jax.__version__ == version == citation["version"]
    assert citation["date-released"] == date == datetime.date.fromisoformat(date).isoformat()


def test_the_changelog_keeps_its_form(releases):
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["[Unreleased]", *(f"[{version}] - {date}" for version, date in releases)]
    assert [date for _, date in releases] == sorted((date for _, date in releases), reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_the_citation_has_what_the_format_requires(citation):
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["title"] == "geneface_jax" and citation["authors"] == [{"name": "The geneface_jax authors"}] and citation["message"]
    for work in citation["references"]:
        assert work["type"] in {"article", "conference-paper"} and work["title"], work
        assert all({"family-names", "given-names"} == set(author) for author in work["authors"]), work["title"]


def test_the_license_is_the_package_s(citation):
    assert f'license = "{citation["license"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_what_the_readme_asks_to_cite_is_in_the_citation_file(citation):
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Citation")[1]
    works = {work.get("notes", work["title"].split(":")[0]): work for work in citation["references"]}
    assert set(works) == {"GeneFace", "GeneFace++", "RAD-NeRF", "Instant-NGP"}
    for name, work in works.items():
        assert name in section and work["authors"] and work["year"], name
