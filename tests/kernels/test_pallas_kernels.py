"""Every Pallas kernel lowers for CUDA without a GPU, compiles for an H100 if the tools are installed, and is in the table of registers."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from geneface_kernels import backend

from scripts.bench.kernels.examples import examples

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "figures" / "kernel_registers.json"


@pytest.mark.parametrize("example", examples(), ids=lambda example: "-".join(example.kernels))
def test_lowers_for_cuda(example):
    with backend.lowering_for_cuda():
        text = jax.jit(example.function).trace(*example.arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" in text
    for kernel in example.kernels:
        assert kernel in text


def test_the_committed_table_was_made_from_this_source():
    table = json.loads(TABLE.read_text(encoding="utf-8"))["kernels"]
    expected = {kernel: example.source_hash() for example in examples() for kernel in example.kernels}
    assert {kernel: figures["source_sha256"] for kernel, figures in table.items()} == expected, (
        "A Pallas kernel changed: regenerate docs/figures/kernel_registers.json, see scripts/bench/kernels/registers.py --help."
    )
    assert all(figures["spill_bytes"] == 0 for figures in table.values())


@pytest.mark.skipif(importlib.util.find_spec("jax_plugins") is None, reason="the CUDA plugin of jax is not installed")
def test_compiles_for_an_h100(tmp_path):
    found = tmp_path / "registers.json"
    subprocess.run([sys.executable, ROOT / "scripts" / "bench" / "kernels" / "registers.py", "--json", found], check=True)
    assert json.loads(found.read_text())["kernels"].keys() == json.loads(TABLE.read_text())["kernels"].keys()
