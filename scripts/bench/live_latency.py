"""From a sound that arrives to the picture that shows it, over a real socket; and an hour of speech and silence. Writes JSON.

    geneface app --subject PERSON --port 7860 &
    python scripts/bench/live_latency.py --port 7860 --person NAME --speech speech.wav --json docs/figures/live.json
    python scripts/bench/live_latency.py --port 7860 --person NAME --speech speech.wav --minutes 60 --json docs/figures/live_hour.json
    python scripts/bench/live_latency.py --port 7860 --person NAME --speech speech.wav --sessions 2 --size 128 --json ...

The recording is sent in real time in pieces of 20 ms, as a microphone gives it, and is repeated with pauses of three seconds between
utterances. Of every frame of speech that comes back, the time since its samples were sent is noted: `sound_ms` for the sound, `picture_ms`
for the picture that shows it. Which samples a frame has is found by comparing them, so nothing of the server is believed but what it
sends. `drift_ms` is the growth of the delay from the first to the last tenth of the run; `step_ms` the difference of a picture's time and
its sound's. `bargein_ms` are from sending `cancel` to the first silent frame, and to a mouth that is shut (a picture with the flag 0).
"""

import argparse
import json
import os
import struct
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
PIECE, FRAME = 320, 640
SEARCH = 10 * 16000
"""Samples after the expected ones, in which those of a frame are searched."""

QUIET = 100
"""16-bit samples below it are too much like others to be searched."""

HEADER, PICTURE, SOUND = struct.Struct("<BBxxId"), 1, 2
PAUSE_SECONDS = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--person", required=True, help="name of a served person with a live network")
    parser.add_argument("--speech", type=Path, required=True, help="recording to speak, of a few seconds to a minute")
    parser.add_argument("--size", type=int, help="pixels per side (default: as trained)")
    parser.add_argument("--fps", type=float, default=25.0, help="pictures a second to ask for (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=1.0, help="length of the run (default %(default)s)")
    parser.add_argument("--sessions", type=int, default=1, help="sessions at once (default %(default)s)")
    parser.add_argument("--pid", type=int, help="of the server, on this machine: its memory is noted too")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    from data_tools.audio.sound import load_audio

    speech = load_audio(args.speech)
    sessions = [Run(args, speech) for _ in range(args.sessions)]
    for session in sessions:
        session.start()
    memory = []
    while any(session.is_alive() for session in sessions):
        time.sleep(5.0)
        if args.pid:
            memory.append(resident_mib(args.pid))
    with urllib.request.urlopen(f"http://{args.host}:{args.port}/api/live/stats") as answer:
        stats = json.load(answer)
    result: dict[str, Any] = {
        "machine": f"{os.uname().machine}, {os.cpu_count()} CPU cores, Python {sys.version.split()[0]}",
        "people": stats["people"],
        "minutes": args.minutes,
        "sessions": [session.result() for session in sessions],
    }
    if memory:
        warm = memory[len(memory) // 10 :]
        result["memory_mib"] = {"first": warm[0], "last": warm[-1], "growth": round(warm[-1] / warm[0] - 1.0, 4)}
    args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Run(threading.Thread):
    """One session: sends the recording in real time, and notes when what comes back was sent."""

    def __init__(self, args: argparse.Namespace, speech: np.ndarray):
        super().__init__(daemon=True)
        self._args = args
        quiet = np.zeros(round(PAUSE_SECONDS * 16000), np.float32)
        self._pcm = np.round(32767 * np.concatenate([speech, quiet])).astype("<i2")
        self._sent: list[float] = []
        self._spoken = self.unknown = 0
        self._where: dict[int, float] = {}
        self.sound: dict[int, float] = {}
        self.picture: dict[int, float] = {}
        self.arrived: list[float] = []
        self.events: list[dict[str, Any]] = []
        self.ready: dict[str, Any] = {}
        self.bargein: dict[str, float] = {}

    def run(self) -> None:
        args = self._args
        address = f"ws://{args.host}:{args.port}/api/live?person={args.person}"
        asked = {"rate": 16000, "format": "s16le", "fps": args.fps, **({"size": args.size} if args.size else {})}
        with connect(address, compression=None, max_size=None) as self._socket:
            self._socket.send(json.dumps(asked))
            while not self.ready:
                self._receive()
            self._end = time.monotonic() + 60.0 * args.minutes
            sender = threading.Thread(target=self._send, daemon=True)
            sender.start()
            while sender.is_alive() or time.monotonic() < self._end + 2.0:
                self._receive()
            self._cancel()

    def _send(self) -> None:
        start, count = time.monotonic(), 0
        while time.monotonic() < self._end:
            self._socket.send(self._piece(PIECE * count, PIECE).tobytes())
            self._sent.append(time.monotonic())
            count += 1
            time.sleep(max(start + count * PIECE / 16000 - time.monotonic(), 0.0))
        self._socket.send('{"type": "flush"}')

    def _piece(self, first: int, length: int) -> np.ndarray:
        return np.take(self._pcm, np.arange(first, first + length), mode="wrap")

    def _receive(self) -> tuple[int, int, bytes]:
        """The next message: (kind, speaking, data); kind 0 is an event."""
        message, now = self._socket.recv(), time.monotonic()
        if isinstance(message, str):
            event = json.loads(message)
            self.events.append(event)
            if event["type"] == "error":
                raise SystemExit(event["error"])
            if event["type"] == "ready":
                self.ready = event
            return 0, 0, b""
        (kind, speaking, number, _), data = HEADER.unpack_from(message), message[HEADER.size :]
        if kind == SOUND:
            self.arrived.append(now)
            self._find(number, data, now)
        elif number in self._where:
            self.picture[number] = now - self._where[number]
        return kind, speaking, data

    def _find(self, number: int, data: bytes, now: float) -> None:
        """Notes when the samples of a frame of speech were sent. Frames come in order; what was refused or left out is skipped."""
        samples = np.frombuffer(data, "<i2").astype(int)
        if not samples.any():  # of a pause, or idle
            return
        at = self._spoken
        if not self._is(samples, self._piece(at, FRAME)[None])[0]:
            following = np.lib.stride_tricks.sliding_window_view(self._piece(at, SEARCH), FRAME)
            found = np.flatnonzero(self._is(samples, following)) if np.abs(samples).max() > QUIET else []
            if not len(found):
                self.unknown += 1
                return
            at += int(found[0])
        self._spoken = at + FRAME
        last = (self._spoken - 1) // PIECE
        if last < len(self._sent):  # not the burst at the end
            self._where[number] = self._sent[last]
            self.sound[number] = now - self._sent[last]

    @staticmethod
    def _is(samples: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Which of the others, [N, FRAME], are these samples; they were 16-bit integers, then floats, and are integers again."""
        return (np.abs(others[:, ::40] - samples[::40]) <= 1).all(axis=1)

    def _cancel(self) -> None:
        """Barge-in: in the middle of a burst of speech."""
        self._socket.send(self._pcm[:28800].tobytes())
        spoken, end = 0, time.monotonic() + 10.0
        while spoken < 10 and time.monotonic() < end:
            kind, speaking, _ = self._receive()
            spoken += kind == SOUND and speaking
        began = time.monotonic()
        self._socket.send('{"type": "cancel"}')
        while len(self.bargein) < 2 and time.monotonic() < began + 5.0:
            kind, speaking, data = self._receive()
            if kind == SOUND and not any(data):
                self.bargein.setdefault("silence_ms", round(1000 * (time.monotonic() - began)))
            if kind == PICTURE and not speaking:
                self.bargein.setdefault("idle_picture_ms", round(1000 * (time.monotonic() - began)))

    def result(self) -> dict[str, Any]:
        """Figures of this session."""
        sound, picture = (1000 * np.array(list(values.values())) for values in (self.sound, self.picture))
        steps = 1000 * np.array([self.picture[number] - self.sound[number] for number in self.picture if number in self.sound])
        tenth = max(len(sound) // 10, 1)
        seconds = 60.0 * self._args.minutes
        return {
            "size": self.ready.get("size"),
            "fps_at_first": self.ready.get("fps"),
            "pictures_per_second_of_speech": round(len(self.picture) / max(len(self.sound) / 25.0, 1e-6), 2),
            "sound_ms": _spread(sound),
            "picture_ms": _spread(picture),
            "step_ms": _spread(steps),
            "drift_ms": round(float(np.median(sound[-tenth:]) - np.median(sound[:tenth])), 1) if len(sound) else None,
            "oldest_picture_ms": round(float(picture.max()), 1) if len(picture) else None,
            "frame_interval_p95_ms": round(1000 * float(np.quantile(np.diff(self.arrived), 0.95)), 1),
            "frames": len(self.arrived),
            "frames_expected": round(25 * seconds),
            "unknown_frames": self.unknown,
            "refused_ms": sum(event.get("refused_ms", 0) for event in self.events),
            "late": sum(event["type"] == "late" for event in self.events),
            "dropped": sum(event.get("pictures", 0) for event in self.events if event["type"] == "dropped"),
            "bargein": self.bargein,
        }


def _spread(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    return {name: round(float(np.quantile(values, share)), 1) for name, share in (("median", 0.5), ("p95", 0.95), ("most", 1.0))}


if __name__ == "__main__":
    main()
