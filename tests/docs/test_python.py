"""The Python of the README, of docs/api.md and of the notebook runs."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import textwrap
from pathlib import Path

import pytest

import geneface_jax as gf
from tests.docs.pages import ROOT, blocks, english, translations

API = ROOT / "docs" / "api.md"
NOTEBOOK = ROOT / "notebooks" / "tour.ipynb"
BLOCKS = [(page, line, text) for page in english() for line, text in blocks(page, "python")]
SLOW = ("gf.fit(", "gf.prepare(", "gf.bake(", "gf.evaluate(", "gf.train(", "talk.save(", ".save(")
"""Calls that take minutes: their arguments are checked; the notebook, the wheel's test and test_public_api.py make such calls."""


def named(block: tuple[Path, int, str]) -> str:
    return f"{block[0].relative_to(ROOT).as_posix()}:{block[1]}"


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_every_call_of_the_api_has_arguments_that_it_takes(block):
    for node in ast.walk(ast.parse(textwrap.dedent(block[2]))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("gf."):
            called = gf
            for name in ast.unparse(node.func).split(".")[1:]:
                called = getattr(called, name)
            arguments = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(called).bind(*node.args, **arguments)


@pytest.mark.parametrize("page", [API, ROOT / "README.md"], ids=lambda page: page.name)
def test_the_examples_run(page, tmp_path, monkeypatch):
    import soundfile

    samples, rate = soundfile.read(gf.sample_speech())
    soundfile.write(tmp_path / "speech.wav", samples[:rate], rate)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    ran = 0
    for _, text in blocks(page, "python"):
        tree = ast.parse(text)
        tree.body = [node for node in tree.body if not any(call in ast.unparse(node) for call in SLOW)]
        if any(name in text for name in ("subject.", "figures", "workdir", "baked")):
            continue  # what a slow call has made
        exec(compile(tree, page, "exec"), names)
        ran += 1
    assert ran >= 1 and (page != API or ran >= 6)


def test_the_chinese_page_has_the_same_python():
    """Apart from comments."""
    for english_page, chinese in translations():
        theirs = [[ast.unparse(ast.parse(text)) for _, text in blocks(page, "python")] for page in (english_page, chinese)]
        assert theirs[0] == theirs[1], chinese


def test_the_page_names_everything_that_is_public():
    text = API.read_text(encoding="utf-8")
    assert [name for name in gf.__all__ if name != "__version__" and f"gf.{name}" not in text] == []


def test_the_notebook_is_tidy():
    """It is committed with its pictures, in order, without errors, paths of a machine, or large output."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 1_000_000 and "Traceback" not in text
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    written = "".join(str(part) for cell in code for output in cell["outputs"] for part in output.get("text", []))
    assert not re.search(r"(?<![\w.~-])/\w[\w.-]*/", written), "an absolute path"
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"]) >= 4


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, 4)
    for cell in notebook.cells:
        cell.pop("outputs", None) if cell.cell_type == "markdown" else cell.update(outputs=[])
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "kernels")]))
        patch.delenv("MPLBACKEND")  # the tests draw nothing; the notebook does
        client.execute()
    assert (tmp_path / "talk.mp4").is_file() and len(gf.read_metrics(tmp_path / "runs" / "tour_syncnet")) >= 10
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
