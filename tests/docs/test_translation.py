"""A Chinese page has the headings, tables and figures of the English one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import prose, translations

PAIRS = list(translations())
GENERATED = "<!-- bad inputs"
"""Before a table that a test writes, in English alone."""

_NUMBER = re.compile(r"(?<![A-Za-z_\d.])[-+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def text_of(page: Path) -> str:
    """A page without its fenced blocks and generated tables."""
    return re.sub(rf"^{GENERATED}.*?(?=\n\n|\Z)", "", prose(page), flags=re.DOTALL | re.MULTILINE)


def tables(page: Path) -> Iterator[list[Counter[str]]]:
    """The numbers of each row, table by table; those of links' addresses apart."""
    for found in re.finditer(r"(?:^\|.*\n?)+", text_of(page), re.MULTILINE):
        rows = [re.sub(r"\]\([^)]*\)", "]", row) for row in found[0].splitlines()]
        yield [Counter(number.rstrip(",") for number in _NUMBER.findall(row)) for row in rows]


def test_every_page_is_translated():
    assert len(PAIRS) > 15 and all(page.is_file() for pair in PAIRS for page in pair)


@pytest.mark.parametrize("english, chinese", PAIRS, ids=lambda page: page.name)
def test_headings_and_tables_agree(english, chinese):
    levels = [re.findall(r"^#+(?= )", text_of(page), re.MULTILINE) for page in (english, chinese)]
    assert levels[0] == levels[1]
    ours, theirs = list(tables(english)), list(tables(chinese))
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        assert left == right
