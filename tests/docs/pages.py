"""The documentation's pages, and the command lines in them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHINESE = ROOT / "docs" / "zh"
_FENCE = re.compile(r"^```(\w*)[ \t]*$(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")


@dataclasses.dataclass(frozen=True)
class Command:
    """One command line of a page.

    Attributes:
      page: where it stands, from the repository's root.
      line: its line number there.
      environment: the assignments before it.
      words: the command and its arguments, without comments; launchers (`srun`) are left out.
    """

    page: str
    line: int
    environment: tuple[str, ...]
    words: tuple[str, ...]

    def __str__(self) -> str:
        """The line as the tables of these tests name it."""
        return " ".join([*self.environment, *(f'"{word}"' if " " in word else word for word in self.words)])


def english() -> list[Path]:
    """The README and every page of docs/ but the translations."""
    return [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if CHINESE not in path.parents)]


def translations() -> Iterator[tuple[Path, Path]]:
    """(English page, Chinese page) for every Chinese page that there is."""
    if (ROOT / "README.zh.md").is_file():
        yield ROOT / "README.md", ROOT / "README.zh.md"
    for page in sorted(CHINESE.rglob("*.md")):
        yield ROOT / "docs" / page.relative_to(CHINESE), page


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) of the fenced blocks in that language."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        if found[1] == language:
            yield text.count("\n", 0, found.start(2)) + 2, found[2].removeprefix("\n")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[Command]:
    """The command lines of a page's bash blocks, in order. Continued lines are joined, `a && b` are two commands."""
    result = []
    for first, text in blocks(page, "bash"):
        joined = re.sub(r"\\\n", lambda _: "\\\0", text)
        number = first
        for line in joined.split("\n"):
            words = shlex.split(line.replace("\\\0", " "), comments=True)
            for part in _split(words, "&&"):
                environment = 0
                while environment < len(part) - 1 and _ASSIGNMENT.fullmatch(part[environment]):
                    environment += 1
                call = part[environment:]
                if call[0] == "srun":
                    call = call[call.index("geneface") :]
                name = page.relative_to(ROOT).as_posix()
                result.append(Command(name, number, tuple(part[:environment]), tuple(call)))
            number += 1 + line.count("\0")
    return result


def _split(words: list[str], at: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, at]:
        if word != at:
            part.append(word)
        elif part:
            yield part
            part = []
