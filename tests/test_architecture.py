"""The structure of the code: sizes of files, and imports that go one way (CONTRIBUTING.md's package list, checked against the code)."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.audio.sound import SAMPLE_RATE, save_wav
from data_tools.avatar.clip import render_clip
from tests.synthetic_subject import write_subject
from tests.tiny_stages import FIELD

ROOT = Path(__file__).parent.parent

# -------- Totals: a later change may raise them by what it adds, with a line here that says so
MOST_FILES = 260
"""Python files that are not tests. Real voices (Whisper, timing, closed lips, and the scripts that make what is shipped) added 6, live
speech 13: features, network, training, sessions, server, benchmarks."""
MOST_SHIPPED_LINES = 42_300
"""Lines of geneface_jax, geneface_kernels and data_tools. The front door (Python API, verbs, shipped data) added 1,000; limits and checks
of all that is read, locks, whole files, pictures as phones make them, and the studio's defenses added 4,000; what rendering on a
laptop skips or keeps (culls, adaptive rays, compiled programs) 700; Whisper, mixed corpora and the timing of sound and picture 700;
live speech 2,600."""
MOST_IMPORTED = {"train": 64, "infer": 80, "prepare": 70}
"""Files of the project that a verb imports: training a head, a video of the shipped person, a dataset (whose timing
of sound and picture is checked by Whisper features)."""

# -------- Ratios: these stay
MEDIAN_LINES = (110, 220)
MOST_LINES = 600
SMALL, MOST_SMALL = 40, 0.08
"""At most this share of the files may have fewer lines than SMALL."""
MOST_IMPORT_LINES = 0.06

DATA_TOOLS_BASE = {
    f"data_tools.{name}" for name in ("errors", "records", "locks", "io", "ffmpeg", "picture", "landmarks68", "command_line", "encoder")
}

ALLOWED = {
    "geneface_kernels": set(),
    # data_tools: modules that stand alone, then the packages, each of which may import those above it.
    "data_tools.errors": set(),
    "data_tools.locks": {"data_tools.errors"},
    "data_tools.records": {"data_tools.errors"},
    "data_tools.io": {"data_tools.errors", "data_tools.locks", "data_tools.records"},
    "data_tools.ffmpeg": {"data_tools.errors"},
    "data_tools.picture": {"data_tools.errors", "data_tools.ffmpeg"},
    "data_tools.jobs": {"data_tools.errors"},
    "data_tools.landmarks68": set(),
    "data_tools.command_line": {"data_tools.errors", "data_tools.io"},
    "data_tools.encoder": {"data_tools.errors", "data_tools.io", "data_tools.command_line"},
    "data_tools.audio": DATA_TOOLS_BASE,
    "data_tools.video": {*DATA_TOOLS_BASE, "data_tools.audio"},
    "data_tools.face": {*DATA_TOOLS_BASE, "data_tools.video"},
    "data_tools.masks": {*DATA_TOOLS_BASE, "data_tools.face"},
    "data_tools.dataset": {*DATA_TOOLS_BASE, *(f"data_tools.{name}" for name in ("jobs", "audio", "video", "face", "masks"))},
    "data_tools.corpus": {*DATA_TOOLS_BASE, *(f"data_tools.{name}" for name in ("jobs", "audio", "video", "face", "dataset"))},
    "data_tools.avatar": {*DATA_TOOLS_BASE, "data_tools.audio"},
    # The tools that run by themselves.
    **{
        f"data_tools.{tool}": {*DATA_TOOLS_BASE, *(f"data_tools.{name}" for name in ("audio", "video", "face", "masks", "dataset"))}
        for tool in ("prepare", "crop", "compose", "light", "segmentation", "background")
    },
    "geneface_jax.typing": {"geneface_kernels"},
    "geneface_jax.system_libraries": set(),
    "geneface_jax.models": {"geneface_kernels", "geneface_jax.typing"},
    "geneface_jax.rendering": {"geneface_kernels", "geneface_jax.typing", "geneface_jax.models"},
    "geneface_jax.io": {"data_tools.errors", "data_tools.io", "data_tools.records", "geneface_jax.typing"},
    "geneface_jax.data": {
        "data_tools.errors",
        "data_tools.io",
        "data_tools.records",
        "data_tools.landmarks68",
        "geneface_jax.typing",
        "geneface_jax.models",
        "geneface_jax.io",
    },
    "geneface_jax.training": {
        "geneface_kernels",
        "data_tools.audio",
        "data_tools.errors",
        "data_tools.io",
        "data_tools.records",
        "data_tools.locks",
        "data_tools.landmarks68",
        "data_tools.command_line",
        "geneface_jax.typing",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
    },
    "geneface_jax.convert": {
        "data_tools.audio",
        "geneface_kernels",
        "data_tools.errors",
        "data_tools.io",
        "data_tools.records",
        "data_tools.landmarks68",
        "geneface_jax.typing",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.training",
    },
    "geneface_jax.inference": {
        "geneface_kernels",
        *DATA_TOOLS_BASE,
        "data_tools.audio",
        "data_tools.video",
        "geneface_jax.typing",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.convert",
    },
    "geneface_jax.evaluation": {
        *DATA_TOOLS_BASE,
        "data_tools.audio",
        "data_tools.video",
        "data_tools.face",
        "geneface_jax.typing",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.training",
        "geneface_jax.inference",
    },
    "geneface_jax.export": {
        "data_tools.errors",
        "data_tools.io",
        "data_tools.records",
        "geneface_jax.typing",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.inference",
    },
    "geneface_jax.live": {
        *DATA_TOOLS_BASE,
        "data_tools.audio",
        "data_tools.video",
        "geneface_jax.typing",
        "geneface_jax.models",
        "geneface_jax.rendering",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.training",
        "geneface_jax.inference",
    },
    "geneface_jax.pipeline": {
        "data_tools.errors",
        "data_tools.io",
        "data_tools.records",
        "data_tools.audio",
        "data_tools.command_line",
        "data_tools.prepare",
        "geneface_jax.io",
        "geneface_jax.data",
        "geneface_jax.training",
        "geneface_jax.inference",
        "geneface_jax.live",
    },
    "geneface_jax.studio": {
        *DATA_TOOLS_BASE,
        "data_tools.audio",
        "data_tools.video",
        "geneface_jax.io",
        "geneface_jax.rendering",
        "geneface_jax.training",
        "geneface_jax.inference",
        "geneface_jax.live",
    },
    # One file a verb, and what joins them.
    "geneface_jax.cli": None,
    "geneface_jax": set(),
    "data_tools": set(),
}
"""Package, or module that stands in none -> what it may import beside itself (None: everything). A `__main__` may import everything."""


@functools.cache
def sources() -> list[Path]:
    """Every Python file that git knows or would add, except for the tests."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [ROOT / name for name in listed if not name.startswith("tests/") and (ROOT / name).is_file()]


@functools.cache
def modules() -> dict[str, Path]:
    """Module name -> file, of the three packages."""
    found = {}
    for path in sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[1:] if parts[0] == "kernels" else parts
        if parts[0] in ("geneface_jax", "geneface_kernels", "data_tools"):
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imports() -> dict[str, set[str]]:
    """Module -> modules that it imports anywhere, inside functions too; imports for the type checker alone are left out."""
    graph = {}
    for module, path in modules().items():
        found = set()
        todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                todo.extend(node.orelse)
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # `from package import module` needs the module; `from module import name` the module.
                found |= {name if (name := f"{node.module}.{alias.name}") in modules() else node.module for alias in node.names}
            todo.extend(ast.iter_child_nodes(node))
        graph[module] = found & modules().keys() - {module}
    return graph


def package_of(module: str) -> str:
    """The entry of ALLOWED that a module belongs to."""
    first, *rest = module.split(".")
    if first == "geneface_kernels" or not rest or rest == ["__main__"]:
        return first
    return f"{first}.{rest[0]}"


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_imports_go_one_way():
    for module, found in imports().items():
        package = package_of(module)
        assert package in ALLOWED, f"{module}: name it in ALLOWED and in CONTRIBUTING.md's package list"
        allowed = ALLOWED[package]
        if allowed is None or module.endswith("__main__"):
            continue
        for name in found:
            assert package_of(name) in {package, *allowed}, f"{module} imports {name}"


def test_no_modules_and_no_packages_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(imports()).prepare()  # raises CycleError, which names the circle
    packages: dict[str, set[str]] = {}
    for module, found in imports().items():
        # A `__main__` is a program: nothing imports it.
        name = module if module.endswith("__main__") else package_of(module)
        packages.setdefault(name, set()).update({package_of(other) for other in found} - {package_of(module)})
    graphlib.TopologicalSorter(packages).prepare()


@pytest.mark.parametrize("folder", ["kernels/geneface_kernels", "geneface_jax/models"])
def test_kernels_and_models_need_jax_flax_and_numpy_alone(folder):
    code = """
import importlib, sys
sys.path[:0] = sys.argv[1:3]
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"jaxtyping", "ml_collections", "cv2", "librosa", "mediapipe", "tensorboardX", "orbax", "scipy", "PIL"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
# jax itself imports scipy.
import jax, flax.linen, jax.scipy.special, jax.experimental.pallas
sys.meta_path.insert(0, Refuse())
for name in sys.argv[3:]:
    importlib.import_module(name)
"""
    names = [name for name, path in modules().items() if path.is_relative_to(ROOT / folder)]
    assert names
    subprocess.run([sys.executable, "-c", code, str(ROOT), str(ROOT / "kernels"), *names], check=True)


def test_files_are_as_many_and_as_long_as_a_reader_can_take():
    sizes = {path: len(lines(path)) for path in sources()}
    assert len(sizes) <= MOST_FILES, len(sizes)
    assert max(sizes.values()) <= MOST_LINES, max(sizes, key=sizes.get)
    without_inits = [size for path, size in sizes.items() if path.name != "__init__.py"]
    low, high = MEDIAN_LINES
    assert low <= statistics.median(without_inits) <= high, statistics.median(without_inits)
    assert sum(size < SMALL for size in without_inits) <= MOST_SMALL * len(without_inits)
    shipped = sum(sizes[path] for path in modules().values())
    assert shipped <= MOST_SHIPPED_LINES, shipped
    imported = sum(node.end_lineno - node.lineno + 1 for path in sources() for node in import_statements(path))
    assert imported <= MOST_IMPORT_LINES * sum(sizes.values()), imported / sum(sizes.values())
    assert sum(len(lines(path)) for path in (ROOT / "tests").rglob("*.py")) >= 0.4 * sum(sizes.values()), "tests keep up"


def import_statements(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_nothing_reads_pickles():
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text and "shell=True" not in text, path
        # The one reader of foreign pickles, which lets them build arrays and containers alone.
        restricted = path.name == "restricted_unpickle.py"
        assert restricted or not re.search(r"^\s*(import|from) (c?pickle|dill|joblib|shelve|marshal)\b", text, re.MULTILINE), path


IMPORTED = """
import os, sys
from geneface_jax.cli.main import main
code = main(sys.argv[2:])
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
ours = [file for file in files if file.startswith(sys.argv[1]) and "site-packages" not in file and "/tests/" not in file]
print("imported", code, len(ours))
"""


def imported_by(*command: str) -> int:
    """How many of the project's files a command line imports."""
    done = subprocess.run([sys.executable, "-c", IMPORTED, str(ROOT), *command], cwd=ROOT, capture_output=True, text=True)
    found = re.search(r"^imported (\d+) (\d+)$", done.stdout, re.MULTILINE)
    assert found and found[1] == "0", done.stderr
    return int(found[2])


def test_training_a_head_imports_few_files(tmp_path):
    dataset = write_subject(tmp_path / "dataset", frames=12)
    small = [f"--config.{text}" for text in (*FIELD, "train.steps=1", "train.eval_every=0", f"data.subject={dataset}")]
    found = imported_by("train", "--config", "head:demo", "--workdir", str(tmp_path / "head"), *small)
    assert 30 < found <= MOST_IMPORTED["train"], found


def test_a_video_of_a_person_imports_few_files(tmp_path):
    save_wav(tmp_path / "sound.wav", np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE).astype(np.float32))
    person = ["--subject", str(ROOT / "checkpoints" / "demo"), "--audio", str(tmp_path / "sound.wav")]
    found = imported_by("infer", *person, "--size", "64", "--out", str(tmp_path / "talk.mp4"))
    assert 30 < found <= MOST_IMPORTED["infer"], found


@pytest.mark.slow
def test_preparing_a_dataset_imports_few_files(tmp_path, mediapipe):
    clip = render_clip(tmp_path / "clip", size=256, seconds=4.0)
    found = imported_by("prepare", str(clip / "video.mp4"), "--out", str(tmp_path / "dataset"), "--size", "128")
    assert 20 < found <= MOST_IMPORTED["prepare"], found
