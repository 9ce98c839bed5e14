"""Times the main job on this machine: preparing a clip, and the demo with the shipped weights. Writes JSON; nothing is asserted.

    python scripts/bench/main_job.py [--json docs/figures/main_job.json] [--seconds 20]

Run it in the repository with .venv made (`./scripts/demo.sh` does that), on an otherwise idle machine: every figure is wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_tools.ffmpeg import probe

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "figures" / "main_job.json")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the clip that is prepared (default %(default)s)")
    args = parser.parse_args()
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}"}
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip"
        run([sys.executable, "-m", "data_tools.avatar", "video", "--out", str(clip), "--seconds", str(args.seconds)])
        person = [str(clip / "video.mp4"), "--out", f"{scratch}/person", "--size", "512"]
        took = run([sys.executable, "-m", "geneface_jax", "prepare", *person])
        ratio = round(took / args.seconds, 2)
        result["prepare"] = {"size": 512, "clip_seconds": args.seconds, "seconds": took, "times_clip_length": ratio}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    took = run([str(ROOT / "scripts" / "demo.sh")])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result["demo"] = {
        "video_seconds": probe(ROOT / "out" / "demo.mp4").seconds,
        "seconds": took,
        # The kernel keeps one maximum for all children: the demo's own when it is above what came before.
        "peak_memory_gb": round(peak / 1e6, 2),
        "peak_is_the_demo_s": peak > before,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def run(command: list[str]) -> float:
    """Runs a command in the repository; returns its wall-clock seconds."""
    print("+", " ".join(command), flush=True)
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    return round(time.perf_counter() - started, 1)


if __name__ == "__main__":
    main()
