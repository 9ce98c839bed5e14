"""Compiles every Pallas kernel to H100 machine code on a machine without a GPU and reports registers and spills.

    python scripts/bench/kernels/registers.py [--json docs/figures/kernel_registers.json]

Needs jax's CUDA plugin and NVIDIA's assembler, from pip; no GPU (the two plugin wheels must have jax's version):

    pip install --no-deps jax-cuda13-plugin==JAX jax-cuda13-pjrt==JAX nvidia-nvvm nvidia-cuda-nvcc

It measures neither speed nor correctness on a GPU.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

H100 = """
gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
  registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } device_description_str: "NVIDIA H100 80GB HBM3"
"""
REPORT = re.compile(r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", re.S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    assembler = find_assembler()
    if assembler is None or importlib.util.find_spec("jax_plugins") is None:
        print(
            "jax's CUDA plugin or ptxas is missing: `python scripts/bench/kernels/registers.py --help` shows how to install both.",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        # Before jax is imported: XLA reads its flags once.
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["XLA_FLAGS"] = f"--xla_dump_to={scratch}"
        # A program from the compilation cache would not be dumped.
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        result = compile_all(Path(scratch), assembler)
    for name, figures in result["kernels"].items():
        print(f"{name:<32} {figures['registers']:>4} registers  {figures['spill_bytes']:>5} bytes spilled")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def find_assembler() -> str | None:
    """Path of ptxas: that of the nvidia wheels, which matches the plugin, before any other."""
    wheels = [p for folder in sys.path for p in Path(folder or ".").glob("nvidia/*/bin/ptxas")]
    return str(wheels[0]) if wheels else shutil.which("ptxas")


def compile_all(dump: Path, assembler: str) -> dict:
    """Compiles every example; returns the table."""
    import jax
    from geneface_kernels import backend
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    from scripts.bench.kernels.examples import examples

    topology = topologies.get_topology_desc("", platform="cuda", target_config=H100, topology="1x1x1")
    on_h100 = SingleDeviceSharding(topology.devices[0])
    kernels = {}
    for example in examples():
        before = set(dump.glob("*.ptx"))
        arguments = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=on_h100), example.arguments)
        with backend.lowering_for_cuda():
            jax.jit(example.function).trace(*arguments).lower(lowering_platforms=("cuda",)).compile()
        # The modules of a program are dumped one by one; modules without code leave empty files.
        modules = [path for path in set(dump.glob("*.ptx")) - before if ".entry" in path.read_text()]
        compiled = [figures for path in modules for figures in assemble(path, assembler)]
        found = [figures for figures in compiled if figures[0] in example.kernels]
        for name, registers, spilled in found:
            kernels[name] = {"registers": registers, "spill_bytes": spilled, "op": example.op, "source_sha256": example.source_hash()}
        missing = set(example.kernels) - {name for name, _, _ in found}
        if missing:
            raise RuntimeError(f"The compiled program of {example.op} contains no kernel {', '.join(sorted(missing))}.")
    return {"device": "NVIDIA H100 (sm_90a), compiled without one", "jax": jax.__version__, "kernels": dict(sorted(kernels.items()))}


def assemble(ptx: Path, assembler: str) -> list[tuple[str, int, int]]:
    """(entry, registers, bytes spilled) of each kernel in a PTX file."""
    done = subprocess.run([assembler, "-v", "-arch=sm_90a", str(ptx), "-o", f"{ptx}.cubin"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ptxas failed on {ptx.name}: {done.stderr.strip()}")
    return [(name, int(registers), int(stores) + int(loads)) for name, stores, loads, registers in REPORT.findall(done.stderr)]


if __name__ == "__main__":
    sys.exit(main())
