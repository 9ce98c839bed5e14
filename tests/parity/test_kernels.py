"""Every kernel against the committed results of the originals (tests/parity/vectors/kernels), and all of their arrays looked at."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from geneface_kernels import backend

from tests.parity.kernels.catalog import PALLAS_OPS, XLA_OPS, golden_modules
from tests.parity.kernels.comparison import GoldenFile
from tests.parity.kernels.recorded import run, unread_arrays
from tests.parity.vectors import COMMITTED

ROOT = Path(__file__).parents[2]
FILES = sorted((COMMITTED / "kernels").glob("*.npz"))
FAMILIES = (
    "composite_train_",
    "density_update_",
    "grid_hash2d_",
    "grid_hash3d_",
    "grid_tiled2d_",
    "grid_tiled3d_",
    "infer_loop_",
    "infer_single_",
    "march_train_",
    "morton_packbits_dilation",
    "near_far_sph",
    "sh_freq",
    "torso_update",
)


def readers(file) -> list[str]:
    return [op for op, module in golden_modules().items() if file.name.startswith(module.PREFIXES)]


def missed(name, checks) -> list[str]:
    assert checks, name
    return [f"{name}: {check.key} is {check.worst:.3g} tolerances off" for check in checks if not check.passed]


def test_every_family_and_every_op_has_a_file():
    assert all(any(path.name.startswith(family) for path in FILES) for family in FAMILIES)
    assert {op for path in FILES for op in readers(path)} == {*PALLAS_OPS, *XLA_OPS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_xla(path):
    for op in readers(path):
        assert not missed(path.name, run(op, path)[0])
    assert not unread_arrays(path, readers(path))


@pytest.mark.parametrize("path", [path for path in FILES if set(readers(path)) & set(PALLAS_OPS)], ids=lambda path: path.stem)
def test_pallas(path):
    """Every Pallas version that can run here (on the CPU: interpreted)."""
    for op in set(readers(path)) & set(PALLAS_OPS):
        for implementation in set(backend.runnable()) - {"xla"}:
            assert not missed(path.name, list(golden_modules()[op].check(GoldenFile.read(path), implementation)))


def test_the_script_prints_a_row_for_each_file(tmp_path):
    """scripts/check_parity.py kernels: exit code 0 on results that are met, 1 on a file that no op reads."""
    for name in ("sh_freq", "near_far_sph"):
        shutil.copy(COMMITTED / "kernels" / f"{name}.npz", tmp_path)
    command = [sys.executable, str(ROOT / "scripts" / "check_parity.py"), "kernels", str(tmp_path), "--implementation", "xla"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 rows, 0 missed"
    shutil.copy(COMMITTED / "kernels" / "sh_freq.npz", tmp_path / "unknown_thing.npz")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "unknown_thing.npz" in done.stdout, done.stdout
