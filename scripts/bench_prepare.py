"""Measures `geneface prepare`: accuracy on the avatar, seconds and CPU seconds per step, peak memory. Writes JSON; nothing is asserted.

    python scripts/bench_prepare.py [--avatar FOLDER] [--seconds 20] [--minutes 10] [--clips FOLDER] [--only NAME ...] [--json FILE]

Parts: `square` (the avatar at 512x512, with accuracy), `portrait` (the same scaled into 1080x1920), `long` (the avatar's clip repeated for
--minutes), `clips` (every video in --clips). A part that is not run keeps what the file said of it. Run it on an otherwise idle machine for
the wall-clock figures; frames per CPU second hardly depend on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from data_tools.ffmpeg import ffmpeg_executable, probe
from scripts.bench.prepare_accuracy import measure_accuracy

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("square", "portrait", "long", "clips")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "figures" / "prepare.json")
    parser.add_argument("--avatar", type=Path, help="folder of `python -m data_tools.avatar video`; rendered when left out")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the avatar used by square and portrait (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the long video (default %(default)s)")
    parser.add_argument("--clips", type=Path, help="folder of real videos")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    result = json.loads(args.json.read_text(encoding="utf-8")) if args.json.exists() else {}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}"
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        avatar = args.avatar
        if avatar is None and set(args.only) - {"clips"}:
            avatar = scratch / "avatar"
            run([sys.executable, "-m", "data_tools.avatar", "video", "--out", str(avatar), "--seconds", str(args.seconds)])
        trim = f"0-{args.seconds:g}"
        if "square" in args.only:
            video = avatar / "video.mp4"
            figures = timed(video, scratch / "square", ["--size", "512", "--trim", trim])
            result["square"] = figures | {"accuracy": rounded(measure_accuracy(scratch / "square" / "dataset", avatar))}
        if "portrait" in args.only:
            video = scratch / "portrait.mp4"
            fit = "scale=1080:1080:flags=lanczos,pad=1080:1920:0:420:color=gray"
            run([ffmpeg_executable(), "-v", "error", "-i", f"file:{(avatar / 'video.mp4').absolute()}", "-t", f"{args.seconds:g}",
                 "-vf", fit, "-c:a", "copy", "-crf", "18", str(video)])  # fmt: skip
            result["portrait"] = timed(video, scratch / "portrait", ["--size", "512"])
        if "long" in args.only:
            video = scratch / "long.mp4"
            run([ffmpeg_executable(), "-v", "error", "-stream_loop", "-1", "-i", f"file:{(avatar / 'video.mp4').absolute()}",
                 "-t", f"{60 * args.minutes:g}", "-c", "copy", str(video)])  # fmt: skip
            # The repetition starts with a jump of the head, which is told and not refused: pose and face are what is measured there.
            result["long"] = timed(video, scratch / "long", ["--size", "512"]) | {"minutes": args.minutes}
        if "clips" in args.only and args.clips:
            clips = sorted(path for path in args.clips.iterdir() if path.suffix in VIDEOS)
            result["clips"] = {path.name: timed(path, scratch / path.stem, ["--size", "512"]) for path in clips}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def timed(video: Path, out: Path, options: list[str]) -> dict:
    """Prepares a video in a new process (features are not taken from a cache); what it took, or the sentence it was refused with."""
    command = [sys.executable, "-m", "geneface_jax", "prepare", str(video), "--out", str(out), *options]
    print("+", " ".join(command), flush=True)
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "GENEFACE_FEATURE_CACHE": "off"}, stderr=subprocess.PIPE, text=True)
    peak = [0]
    watch = threading.Thread(target=watch_memory, args=(process.pid, peak), daemon=True)
    watch.start()
    messages = process.communicate()[1]
    seconds = time.perf_counter() - started
    info = probe(video)
    facts = {"width": info.width, "height": info.height, "clip_seconds": round(info.seconds, 2)}
    if process.returncode != 0:
        return facts | {"refused": messages.strip().splitlines()[-1]}
    report = json.loads((out / "dataset" / "report.json").read_text(encoding="utf-8"))
    frames = round(report["values"]["seconds"] * 25)
    cpu = report["cpu_seconds_per_step"]
    return facts | {
        "frames": frames,
        "seconds": round(seconds, 1),
        "frames_per_second": round(frames / seconds, 2),
        "cpu_seconds": round(sum(cpu.values()), 1),
        "frames_per_cpu_second": round(frames / sum(cpu.values()), 2),
        "peak_memory_gb": round(peak[0] / 1e9, 2),
        "seconds_per_step": report["seconds_per_step"],
        "cpu_ms_per_frame": {step: round(1000.0 * value / frames, 2) for step, value in cpu.items()},
        "changes": report["changes"],
        "not_good": {name: report["values"][name] for name, light in report["lights"].items() if light in ("usable", "poor")},
    }


def watch_memory(pid: int, peak: list[int]) -> None:
    """Keeps the largest resident memory of a process and its children together, ten times a second."""
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            family = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(memory_of(member) for member in family))
            time.sleep(0.1)
    except psutil.Error:
        return


def memory_of(process: psutil.Process) -> int:
    """Resident bytes; 0 of a process that has ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def run(command: list[str]) -> None:
    print("+", " ".join(command), flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
