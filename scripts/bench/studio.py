"""Measures the studio's streaming: seconds to the first bytes, cold and warm, and peak memory by length; writes JSON.

    python scripts/bench/studio.py [--subject checkpoints/demo] [--only first memory] [--lengths 10 180] [--json docs/figures/studio.json]

Starts `geneface app`, requests one cold stream (the person's networks are loaded and compiled) and three warm ones, then streams a
recording of each length in a new studio process and reads its peak memory (Linux). At about 7 frames per second on two cores, three minutes
of audio take ten minutes. Results of parts that are not run are kept in the JSON file. Only `first` needs an otherwise idle machine.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.audio.sound import SAMPLE_RATE, load_audio, save_wav
from data_tools.io import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
SPEECH = ROOT / "data_tools" / "avatar" / "speech" / "demo_unseen.ogg"
WARM_TURNS = 3
FIRST_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", type=Path, default=ROOT / "checkpoints" / "demo", help="subject folder (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=("first", "memory"), default=("first", "memory"), help="parts to run (default: all)")
    parser.add_argument(
        "--lengths", type=float, nargs="*", default=[10.0, 180.0], metavar="S", help="seconds of audio for memory (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    speech = load_audio(SPEECH)
    result = read_json(args.json) if args.json and args.json.exists() else {}
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} CPU cores", "subject": args.subject.name}
    if "first" in args.only:
        result["first_bytes_s"] = {"load": round(os.getloadavg()[0], 1)} | first_bytes(args.subject, wav(speech, FIRST_SECONDS))
    if "memory" in args.only:
        result["memory"] = [memory(args.subject, seconds, wav(speech, seconds)) for seconds in args.lengths]
    print(json.dumps(result, indent=2))
    if args.json:
        write_json(args.json, result)


def wav(speech: np.ndarray, seconds: float) -> bytes:
    """A wav file of that length; shorter speech is repeated."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        save_wav(path, np.resize(speech, round(seconds * SAMPLE_RATE)))
        return path.read_bytes()


@contextlib.contextmanager
def studio(subject: Path) -> Iterator[tuple[str, int]]:
    """Starts a studio; yields its address and process id."""
    command = [sys.executable, "-m", "geneface_jax", "app", "--port", "0", "--subject", str(subject)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield next(line.strip() for line in process.stdout if line.startswith("http")), process.pid
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def request_stream(address: str, body: bytes) -> tuple[float, float]:
    """Seconds to the first bytes of a stream and to its end."""
    with urllib.request.urlopen(f"{address}api/people") as reply:
        name = json.load(reply)[0]["name"]
    started = time.perf_counter()
    request = urllib.request.Request(f"{address}api/stream?person={name}", data=body)
    with urllib.request.urlopen(request) as reply:
        reply.read(1)
        first = time.perf_counter() - started
        while reply.read(1 << 16):
            pass
    return round(first, 2), round(time.perf_counter() - started, 1)


def first_bytes(subject: Path, body: bytes) -> dict[str, float | list[float]]:
    """Seconds to the first bytes of the first request after the start (cold) and of the following ones (warm)."""
    with studio(subject) as (address, _):
        cold, _ = request_stream(address, body)
        warm = [request_stream(address, body)[0] for _ in range(WARM_TURNS)]
    return {"recording_s": FIRST_SECONDS, "cold": cold, "warm": statistics.median(warm), "warm_all": warm}


def memory(subject: Path, seconds: float, body: bytes) -> dict[str, float]:
    """Peak memory of a studio that renders one stream to its end."""
    with studio(subject) as (address, pid):
        _, seconds_to_end = request_stream(address, body)
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM"))
    return {"recording_s": seconds, "rendered_in_s": seconds_to_end, "peak_gb": round(peak, 3)}


if __name__ == "__main__":
    main()
