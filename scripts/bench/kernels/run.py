"""Times every kernel on this machine and writes JSON.

    python scripts/bench/kernels/run.py [--json docs/figures/kernels_cpu.json] [--only grid_encoding] [--repeats 5]

Per case: the time of each implementation that can run here (fastest of the repeats, alternating implementations and PyTorch), samples/s,
the share of this device's measured ceiling (random gathers, copies or matrix products), and the ratio to the same computation in plain
PyTorch if torch is installed (pip install torch==2.13.0). Without a GPU the Pallas kernels are not measured. Run it on an idle machine.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import jax  # noqa: E402
from geneface_kernels import backend  # noqa: E402

from scripts.bench.kernels import cases, ceilings  # noqa: E402

OPS = ("grid_encoding", "ray_marching", "compositing", "frame_rendering")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--only", action="append", choices=OPS, help="only this op (repeatable)")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device = jax.devices()[0]
    ceiling = ceilings.measure(args.repeats)
    result = {
        "device": device.device_kind if device.platform != "cpu" else f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "jax": jax.__version__,
        "torch": torch_version(),
        "ceilings": {name: float(f"{value:.4g}") for name, value in ceiling.items()},
        "cases": [],
    }
    print(f"{result['device']}, jax {result['jax']}, torch {result['torch'] or 'not installed'}")
    print(", ".join(f"{name} {value:.3g}" for name, value in ceiling.items()), flush=True)
    for op in args.only or OPS:
        for case in getattr(cases, f"{op}_cases")():
            result["cases"].append(row := measure(case, ceiling, args.repeats))
            print(json.dumps(row), flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def torch_version() -> str | None:
    """Version of torch, or None if it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch.__version__


def measure(case: cases.Case, ceiling: dict[str, float], repeats: int) -> dict:
    """One row of the result: every runnable implementation and PyTorch, alternating so that noise affects all alike."""
    calls = {name: case.run(name) for name in case.implementations if name in backend.runnable() and name != "pallas_interpret"}
    if torch_version():
        twins = {"torch": case.torch, "torch_stacked": case.torch_stacked}
        calls |= {name: twin() for name, twin in twins.items() if twin}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name] += ceilings.seconds(call, 1)
    best = {name: min(values) for name, values in times.items()}
    peak = ceiling["matmul_flops_per_s"] if case.pattern == "matmul" else ceiling[f"{case.pattern}_bytes_per_s"]
    work = case.flops if case.pattern == "matmul" else case.bytes_moved
    row = {"op": case.op, "case": case.name, "samples": case.samples, "bytes": case.bytes_moved, "flops": case.flops, "bound": case.pattern}
    for name, value in best.items():
        row[name] = {"ms": round(1e3 * value, 3), "samples_per_s": float(f"{case.samples / value:.4g}")}
        if not name.startswith("torch"):
            row[name]["share_of_ceiling"] = round(work / value / peak, 3)
            row[name] |= {f"times_{twin}": round(value / best[twin], 4) for twin in best if twin.startswith("torch")}
    reason = backend.why_pallas_cannot_run()
    if "pallas" in case.implementations and reason:
        row["pallas"] = f"not measured: {reason}"
    return row


if __name__ == "__main__":
    main()
