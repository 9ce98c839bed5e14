"""Every command line of the README and of docs/ is one that the programs take, and the translations show the same ones."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from data_tools.errors import InputError
from tests.docs.pages import ROOT, Command, blocks, commands, english, translations
from tests.docs.parsing import check

EVERY = {str(command): command for page in english() for command in commands(page)}
PAIRS = list(translations())


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("command", EVERY.values(), ids=lambda command: f"{command.page}:{command.line}")
def test_it_is_a_line_that_the_program_takes(command, monkeypatch):
    check(command, monkeypatch)


@pytest.mark.parametrize(
    "line",
    [
        "geneface paint my_video.mp4",
        "geneface infer --subject a --audio b --out c.mp4 --mouth-ampp 1",
        "geneface infer --subject a --audio b --out c.mp4 --mouth-amp 7",
        "geneface train --config configs/hed.py:demo --workdir a",
        "geneface train --config head:tiny --workdir a",
        "geneface train --config head:demo --workdir a --config.optimizer.rate=1",
        "geneface train --config head:demo --workdir a --config.train.steps=many",
        "geneface train --config head_sr:demo --workdir a --init b --init-rule head-into-nothing",
        "geneface crop a.mp4 b.mp4 --folow",
        "python -m data_tools.light a b --outt c",
        "python scripts/nothing.py",
        "geneface sweep configs/ablations/head_grid.py --out a --config.optimiser.lr=1",
        "python scripts/bench/loop.py --subject a --jsn b",
        "pip install -e .[gpu]",
        "./scripts/run.sh",
        "rm -rf people",
    ],
)
def test_a_line_that_it_does_not_take_is_noticed(line, monkeypatch, capsys):
    with pytest.raises((AssertionError, InputError, SystemExit, ValueError, FileNotFoundError)):
        check(Command("page.md", 1, (), tuple(line.split())), monkeypatch)


@pytest.mark.parametrize("page", [*english(), *(page for _, page in PAIRS)], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_bash_can_read_its_blocks(page):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    for line, text in blocks(page, "bash"):
        told = subprocess.run([bash, "-n"], input=text, capture_output=True, text=True, check=False)
        assert told.returncode == 0, f"line {line}: {told.stderr}"


@pytest.mark.parametrize(("original", "translated"), PAIRS, ids=[page.relative_to(ROOT).as_posix() for _, page in PAIRS])
def test_a_translation_has_the_same_lines(original, translated):
    assert sorted(map(str, commands(translated))) == sorted(map(str, commands(original)))


def test_continued_and_joined_lines_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("x\n```bash\na \\\n  b # said\nK=1 c && d 'e f'\n```\n```python\nf\n```\n", encoding="utf-8")
    assert [(command.line, command.environment, command.words) for command in commands(page)] == [
        (3, (), ("a", "b")),
        (5, ("K=1",), ("c",)),
        (5, (), ("d", "e f")),
    ]
