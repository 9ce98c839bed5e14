"""Imports go one way: the table in CONTRIBUTING.md, checked against the code."""

import ast
import graphlib
import re
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ALLOWED = {
    "kernels/geneface_kernels": {"geneface_kernels"},
    "data_tools": {"data_tools"},
    "configs": set(),
    "geneface_jax/models": {"geneface_kernels", "geneface_jax.models"},
    "geneface_jax/rendering": {"geneface_kernels", "geneface_jax.models", "geneface_jax.rendering"},
    "geneface_jax/io": {"geneface_jax.io", "data_tools.errors"},
    # SyncNet's window lengths are the network's to fix and the data's to cut.
    "geneface_jax/data": {
        "geneface_jax.data",
        "geneface_jax.io",
        "data_tools.errors",
        "geneface_jax.models.syncnet",
        # Pure maths that preparing a dataset needs as well.
        "data_tools.face.align",
    },
    "geneface_jax/training": {
        "geneface_kernels",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.training",
        "data_tools.errors",
        # A validation's landmarks are drawn as `geneface landmarks` draws them.
        "geneface_jax.rendering.landmark_video",
        "data_tools.landmarks68",
    },
    "geneface_jax/convert": {
        "geneface_kernels",
        "geneface_jax.models",
        "geneface_jax.data",
        "geneface_jax.io",
        "geneface_jax.training",
        # What the originals do to a motion after the networks is compared too, and so are their pictures.
        "geneface_jax.inference.motion_filters",
        "geneface_jax.inference.poses",
        "geneface_jax.rendering",
        # A person's data is measured as `geneface prepare` measures it.
        "data_tools.face",
        "geneface_jax.convert",
        "data_tools.errors",
    },
    "geneface_jax/inference": {
        "geneface_kernels",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.inference",
        "data_tools.errors",
        # HuBERT's weights are the user's, in transformers' format: they are read whenever features are computed.
        "geneface_jax.convert.pretrained",
        "data_tools.audio",
        "data_tools.command_line",
        "data_tools.video",
    },
    "geneface_jax/export": {
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.inference",
        "geneface_jax.export",
        "data_tools.errors",
    },
    "geneface_jax/evaluation": {
        "geneface_jax.models.lpips",
        "geneface_jax.inference",
        "geneface_jax.rendering",
        "geneface_jax.data",
        "geneface_jax.io",
        "geneface_jax.evaluation",
        "data_tools.errors",
        # The SyncNet that judged in training judges the result.
        "geneface_jax.training.speech.sync",
        "data_tools.audio",
        "data_tools.face",
        "data_tools.video",
    },
}
OURS = ("geneface_kernels", "geneface_jax", "data_tools", "configs", "kernels")


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in OURS}


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_one_way(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, folder
    for path in files:
        for name in imports(path):
            where = f"{path.relative_to(ROOT)}: {name}"
            assert any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED[folder]), where


@pytest.mark.parametrize("folder", ["kernels/geneface_kernels", "geneface_jax/models"])
def test_kernels_and_models_need_jax_flax_and_numpy_alone(folder):
    allowed = {"jax", "flax", "numpy", "ml_collections", *OURS} | sys.stdlib_module_names
    for path in (ROOT / folder).rglob("*.py"):
        # A bench holds its PyTorch twin, imported when it is run.
        allowed_here = allowed | {"torch"} if path.name == "bench.py" else allowed
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert {n.split(".")[0] for n in names} <= allowed_here, path


def sources() -> list[Path]:
    """Every file of the program."""
    return [path for folder in ("geneface_jax", "kernels", "data_tools", "configs", "scripts") for path in (ROOT / folder).rglob("*.py")]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_source_file_is_long_and_tests_keep_up():
    sizes = {path: lines(path) for path in sources()}
    assert max(sizes.values()) <= 600, max(sizes, key=sizes.get)
    assert statistics.median(sizes.values()) <= 170
    assert sum(map(lines, (ROOT / "tests").rglob("*.py"))) >= 0.4 * sum(sizes.values())


def test_no_modules_import_each_other_in_a_circle():
    """Imports at the top of a module alone: one inside a function is there to be late."""
    roots = {"geneface_kernels": ROOT / "kernels", "geneface_jax": ROOT, "data_tools": ROOT}
    modules = {}
    for package, root in roots.items():
        for path in (root / package).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in modules.items():
        found = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # `from package import module` needs the module; `from module import name` the module.
                found |= {name if (name := f"{node.module}.{alias.name}") in modules else node.module for alias in node.names}
        graph[module] = found & modules.keys() - {module}
    assert len(graph) > 300
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_nothing_reads_pickles():
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text and "shell=True" not in text, path
        # The one reader of foreign pickles, which lets them build arrays and containers alone.
        restricted = path.name == "restricted_unpickle.py"
        assert restricted or not re.search(r"^\s*(import|from) (c?pickle|dill|joblib|shelve|marshal)\b", text, re.MULTILINE), path
