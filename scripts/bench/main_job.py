"""Times the main job on this machine: preparing a clip, and the demo with the weights in checkpoints/. Writes JSON.

    python scripts/bench/main_job.py [--json docs/figures/main_job.json] [--seconds 20]

Run it after ./scripts/demo.sh has created .venv, on an otherwise idle machine: all figures are wall-clock times.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_tools.ffmpeg import probe
from data_tools.io import write_json

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "docs/figures/main_job.json", help="file to write (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the prepared clip (default %(default)s)")
    args = parser.parse_args()
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}"}
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip"
        run([sys.executable, "-m", "geneface_jax", "avatar", "video", "--out", str(clip), "--seconds", str(args.seconds)])
        person = [str(clip / "video.mp4"), "--out", f"{scratch}/person", "--size", "512"]
        seconds = run([sys.executable, "-m", "geneface_jax", "prepare", *person])
        ratio = round(seconds / args.seconds, 2)
        result["prepare"] = {"size": 512, "clip_seconds": args.seconds, "seconds": seconds, "times_clip_length": ratio}
    previous_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    seconds = run([str(ROOT / "scripts" / "demo.sh")])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result["demo"] = {
        "video_seconds": probe(ROOT / "out" / "demo.mp4").seconds,
        "seconds": seconds,
        # The kernel stores one maximum over all children: it is the demo's if it exceeds the earlier one.
        "peak_memory_gb": round(peak / 1e6, 2),
        "peak_is_the_demo_s": peak > previous_peak,
    }
    print(write_json(args.json, result).read_text(encoding="utf-8"))


def run(command: list[str]) -> float:
    """Runs a command in the repository; returns its wall-clock seconds."""
    print("+", " ".join(command), flush=True)
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    return round(time.perf_counter() - started, 1)


if __name__ == "__main__":
    main()
