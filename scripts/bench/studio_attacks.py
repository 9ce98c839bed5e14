"""Attacks a studio on this machine and measures what that costs it and its other visitors; writes JSON.

    python scripts/bench/studio_attacks.py [--only sound picture reader refused half_open renders] [--json docs/figures/studio_attacks.json]

    sound      a recording of 90 kB that holds five hours: peak memory
    picture    a background picture of 177 million pixels in 0.7 MB: peak memory
    reader     a stream whose reader never reads: how long a second client's stream takes, compared with alone
    refused    500 requests that are refused, of nine kinds: what they leave in the private folder
    half_open  300 connections that send half a request: how long /health and the page take, and when the connections are ended
    renders    20 renders from the page: memory after the third and the last

The people's networks are stand-ins, but for `renders`, which uses the shipped person. Needs Linux (/proc), and some ten minutes on two
cores. Results of parts that are not run are kept in the JSON file. The exit code is 1 if a limit is passed.
"""

import argparse
import contextlib
import dataclasses
import http.client
import io
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_tools.audio.sound import SAMPLE_RATE, save_wav
from data_tools.ffmpeg import ffmpeg_executable
from data_tools.io import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
# The stand-ins are those of the tests.
sys.path.insert(0, str(ROOT))
MAX_PEAK_MB = 300.0
MAX_RATIO = 1.5
MAX_HEALTH_S = 2.0
MAX_GROWTH = 1.05


@dataclasses.dataclass(frozen=True)
class Studio:
    """A running studio: its port, its process, and the folder in which its private folder lies."""

    port: int
    pid: int
    temporary: Path

    def memory_mb(self, kind: str = "VmRSS") -> float:
        """Memory of the process; `VmHWM` is its peak."""
        found = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024.0 if found else 0.0

    def reset_peak(self) -> None:
        """Sets the peak to the current memory."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def files(self) -> dict[str, int]:
        """Sizes of the files in the private folder."""
        (private,) = self.temporary.glob("geneface-studio-*")
        return {str(path.relative_to(private)): path.stat().st_size for path in private.rglob("*") if path.is_file()}

    def post(self, query: str, body: bytes) -> tuple[int, str, float]:
        """A whole stream: status code, the sentence of a refusal, and seconds to its end."""
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request("POST", f"/api/stream?{query}", body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        sentence = json.loads(data)["error"] if answer.status != 200 else ""
        return answer.status, sentence, time.perf_counter() - started


@contextlib.contextmanager
def studio(*options: str, stand_ins: bool = True) -> Iterator[Studio]:
    """Starts a studio with stand-ins (`options` are those of `tests.geneface_jax.studio.studio_server`), or with the shipped person."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        module = ["tests.geneface_jax.studio.studio_server", f"{folder}/people"] if stand_ins else ["geneface_jax", "app"]
        shipped = [] if stand_ins else ["--subject", str(ROOT / "checkpoints" / "demo")]
        command = [sys.executable, "-m", *module, *options, *shipped, "--port", "0"]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        with open(Path(folder) / "log", "w+") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=ROOT)
            try:
                address = next((line for line in process.stdout or () if line.startswith("http")), None)
                if address is None:
                    log.seek(0)
                    raise RuntimeError(f"the studio did not start: {log.read()}")
                yield Studio(int(address.rstrip("/\n").rsplit(":", 1)[1]), process.pid, temporary)
            finally:
                process.terminate()
                process.wait(60)
                if process.stdout is not None:
                    process.stdout.close()


# -------- The attacks

HALVES = (b"GET /health HTTP/1.1\r\nHost: 127.0", b"POST /api/stream?person=anna HTTP/1.1\r\nX: ", b"\x16\x03", b"")
"""What half-open connections send."""


def sound_bomb(hours: float) -> bytes:
    """A recording of silence whose timestamps are all 0, so that no limit on timestamps ends its decoding: 18 kB an hour."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bomb.mkv"
        command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", str(3600 * hours)]
        subprocess.run([*command, "-c:a", "flac", "-frame_size", "65535", "-bsf:a", "setts=pts=0:dts=0", str(path)], check=True)
        return path.read_bytes()


def attack_sound(hours: float = 5.0) -> dict[str, Any]:
    """Sends the recording to the API and, as a visitor of the page would, to a render."""
    from tests.geneface_jax.studio.studio_server import Page

    bomb = sound_bomb(hours)
    with studio() as attacked:
        attacked.post("person=anna", speech(1.0))  # what every studio needs for its first stream
        page, before = Page(attacked.port), attacked.memory_mb()
        attacked.reset_peak()
        status, sentence, seconds = attacked.post("person=anna", bomb)
        page.set("audio", page.upload("bomb.mkv", bomb))
        told = page.click("render")["status"]
        peak = attacked.memory_mb("VmHWM") - before
    result = {"hours": hours, "bytes": len(bomb), "status": status, "sentence": sentence, "page": told, "seconds": round(seconds, 1)}
    return result | {"peak_mb": round(peak), "held": status == 400 and "studio-error" in told and peak < MAX_PEAK_MB}


def attack_picture(side: int = 13300) -> dict[str, Any]:
    """Renders with a background picture of side * side pixels."""
    from tests.geneface_jax.studio.studio_server import Page

    data = io.BytesIO()
    Image.new("RGBA", (side, side)).save(data, "PNG")
    with studio() as attacked:
        page = Page(attacked.port)
        page.set("audio", page.upload("a.wav", speech(1.0)))
        page.click("render")
        page.set("control-bg", "picture")
        page.set("control-bg-picture", page.upload("bomb.png", data.getvalue()))
        before = attacked.memory_mb()
        attacked.reset_peak()
        told = page.click("render")["status"]
        peak = attacked.memory_mb("VmHWM") - before
    held = "million pixels" in told and peak < MAX_PEAK_MB
    return {"pixels": side * side, "bytes": len(data.getvalue()), "page": told, "peak_mb": round(peak), "held": held}


def attack_reader(seconds: float = 4.0, turns: int = 3) -> dict[str, Any]:
    """Streams `seconds` alone, then while another client reads nothing of a stream of ten minutes."""
    recording, endless = speech(seconds), speech(590.0)
    with studio("--noise", "--seconds", "0.02") as attacked:
        attacked.post("person=anna", recording)
        alone = [attacked.post("person=anna", recording)[2] for _ in range(turns)]
        with socket.create_connection(("127.0.0.1", attacked.port)) as reader:
            head = f"POST /api/stream?person=bert HTTP/1.1\r\nHost: 127.0.0.1:{attacked.port}\r\nContent-Length: {len(endless)}\r\n\r\n"
            reader.sendall(head.encode() + endless)
            reader.recv(100)
            beside = [attacked.post("person=anna", recording)[2] for _ in range(turns)]
    ratio = statistics.median(beside) / statistics.median(alone)
    rounded = {"alone_s": [round(one, 2) for one in alone], "beside_s": [round(one, 2) for one in beside], "ratio": round(ratio, 2)}
    return rounded | {"held": ratio < MAX_RATIO}


def attack_refused(requests: int = 500) -> dict[str, Any]:
    """Sends requests that are refused, or that are broken off, and looks at the private folder afterwards."""
    recording, silence = speech(10.0), wav(np.zeros(SAMPLE_RATE, np.float32))
    kinds: list[Callable[[Studio], object]] = [
        lambda attacked: attacked.post("person=anna&pose=9000-9001", recording),
        lambda attacked: attacked.post("person=anna&mouth_amp=7", recording),
        lambda attacked: attacked.post("person=nobody", recording),
        lambda attacked: attacked.post("person=anna", silence),
        lambda attacked: attacked.post("person=anna", b"no sound"),
        lambda attacked: attacked.post("person=anna", recording[:50]),
        lambda attacked: half_upload(attacked, "/api/stream?person=anna", ""),
        lambda attacked: half_upload(attacked, "/gradio_api/upload", "multipart/form-data; boundary=x"),
        lambda attacked: abandoned_stream(attacked, recording),
    ]
    statuses: dict[str, int] = {}
    with studio("--seconds", "0.01") as attacked:
        before = attacked.files()
        for number in range(requests):
            answer = kinds[number % len(kinds)](attacked)
            status = str(answer[0]) if isinstance(answer, tuple) else "broken off"
            statuses[status] = statuses.get(status, 0) + 1
        for _ in range(100):  # the last render may be ending
            left = {name: size for name, size in attacked.files().items() if name not in before}
            if not left:
                break
            time.sleep(0.1)
        served = attacked.post("person=anna", speech(1.0))[0]
    held = not left and served == 200 and set(statuses) == {"400", "broken off"}
    return {"requests": requests, "statuses": statuses, "files_left": len(left), "bytes_left": sum(left.values()), "held": held}


def attack_half_open(sockets: int = 300, asks: int = 20, wait: bool = True) -> dict[str, Any]:
    """Opens connections that send half a request each, asks for /health and the page meanwhile, and waits for the connections' end."""
    with studio() as attacked, contextlib.ExitStack() as stack:
        health, page = ask(attacked, "/health"), ask(attacked, "/")
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", attacked.port))) for _ in range(sockets)]
        for number, one in enumerate(opened):
            one.sendall(
                (b"GET /health HTTP/1.1\r\nHost: 127.0", b"POST /api/stream?person=anna HTTP/1.1\r\nX: ", b"\x16\x03", b"")[number % 4]
            )
        times = [ask(attacked, "/health") for _ in range(asks)]
        beside, ended, started = ask(attacked, "/"), 0, time.perf_counter()
        for one in opened if wait else ():
            one.settimeout(max(40.0 - (time.perf_counter() - started), 0.01))
            with contextlib.suppress(OSError):
                while one.recv(1000):
                    pass
                ended += 1
    result = {
        "sockets": sockets,
        "health_alone_s": round(health, 3),
        "health_worst_s": round(max(times), 3),
        "page_alone_s": round(page, 3),
    }
    result |= {"page_beside_s": round(beside, 3), "held": max(times) < MAX_HEALTH_S and beside < 10.0}
    if wait:
        waited = time.perf_counter() - started
        result |= {"ended": ended, "ended_after_s": round(waited), "held": result["held"] and ended == sockets and waited < 40.0}
    return result


def attack_renders(renders: int = 20, seconds: float = 2.0, stand_ins: bool = False) -> dict[str, Any]:
    """Renders a recording again and again, from the page."""
    from tests.geneface_jax.studio.studio_server import Page

    with studio(stand_ins=stand_ins) as attacked:
        page, memory = Page(attacked.port), []
        page.set("audio", page.upload("a.wav", speech(seconds)))
        for _ in range(renders):
            told = page.click("render")["status"]
            if "studio-done" not in told:
                raise RuntimeError(told)
            memory.append(round(attacked.memory_mb()))
    growth = memory[-1] / memory[2]
    return {"renders": renders, "recording_s": seconds, "memory_mb": memory, "growth": round(growth, 3), "held": growth < MAX_GROWTH}


# -------- Clients


def wav(samples: np.ndarray) -> bytes:
    """A wav file of [n] samples at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        save_wav(path, samples)
        return path.read_bytes()


def speech(seconds: float) -> bytes:
    """A wav file of noise as loud as speech."""
    return wav(np.random.default_rng(0).normal(0.0, 0.1, round(SAMPLE_RATE * seconds)).astype(np.float32))


def ask(attacked: Studio, path: str) -> float:
    """Seconds that a GET request takes."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", attacked.port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} is answered with {answer.status}")
    finally:
        connection.close()
    return time.perf_counter() - started


def half_upload(attacked: Studio, path: str, kind: str) -> None:
    """Announces a megabyte, sends a part of it and hangs up."""
    with socket.create_connection(("127.0.0.1", attacked.port)) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{attacked.port}\r\nContent-Type: {kind}\r\nContent-Length: 1000000\r\n\r\n"
        field = '--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
        client.sendall((head + field).encode() + bytes(200_000))


def abandoned_stream(attacked: Studio, recording: bytes) -> None:
    """Begins a stream and hangs up, before or after its first bytes."""
    with socket.create_connection(("127.0.0.1", attacked.port)) as client:
        head = f"POST /api/stream?person=anna HTTP/1.1\r\nHost: 127.0.0.1:{attacked.port}\r\nContent-Length: {len(recording)}\r\n\r\n"
        client.sendall(head.encode() + recording)
        client.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            client.recv(100)


ATTACKS: dict[str, Callable[[], dict[str, Any]]] = {
    "sound": attack_sound,
    "picture": attack_picture,
    "reader": attack_reader,
    "refused": attack_refused,
    "half_open": attack_half_open,
    "renders": attack_renders,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS), help="attacks to run (default: all)")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    result = read_json(args.json) if args.json and args.json.exists() else {}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} CPU cores"
    for name in args.only:
        result[name] = ATTACKS[name]()
        print(f"{name}: {json.dumps(result[name])}", flush=True)
        if args.json:
            write_json(args.json, result)
    return 0 if all(result[name]["held"] for name in args.only) else 1


if __name__ == "__main__":
    sys.exit(main())
