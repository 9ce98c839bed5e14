"""Training jobs started from the page: one at a time in a process of its own, with curves and sample pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import read_json, write_json
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import STAGES
from geneface_jax.training.reporting import LOG_FOLDER, METRICS_FILE, Chart, draw_curves, read_metrics

# ----------------------------------------------------------------------------------------------------
# Training people from the page: one job at a time, in a process of its own, that can go on after a stop or a restart.
#
# A job is `geneface prepare` or `geneface fit` on `PEOPLE/NAME`, where its video is kept as `source.*`; what it is about stands in
# `PEOPLE/NAME/studio.json`, so that a studio started later finds it. Both commands go on where they were stopped.

RECORD_FILE, LOG_FILE, LOCK_FILE = "studio.json", "studio.log", ".studio-training.lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
KINDS = ("prepare", "fit")
STOP_SECONDS = 60.0
"""A stage that is told to stop first finishes its step and writes a checkpoint."""
LOG_BYTES = 8000
_INTERRUPTED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a job that was stopped, as against one that failed."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One person being made.

    Attributes:
      name: of the person. kind: "prepare" or "fit".
      video: file name of the video in the person's folder.
      size: pixels per side of the pictures.
      consent: who agreed and when; "" before anybody said.
      state: "running", "finished", "stopped" or "failed".
      code: exit code once it ended.
    """

    name: str
    kind: str
    video: str
    size: int
    consent: str = ""
    state: str = "stopped"
    code: int | None = None


class JobRunner:
    """The jobs in a folder of people.

    Args:
      folder: where people are kept.
      fit_options: further words of every `geneface fit` (tests train very little).
    """

    def __init__(self, folder: str | os.PathLike[str], fit_options: Sequence[str] = ()):
        self.folder, self._fit_options = Path(folder), tuple(fit_options)
        self._process: subprocess.Popen | None = None
        self._running: Job | None = None

    def person_folder(self, name: str) -> Path:
        """Where a person of this name is or will be.

        Raises:
          InputError: the name is none that a folder may have here.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError("that name can't be used; give 1 to 40 letters, digits, - or _, beginning with a letter or digit")
        return self.folder / name

    def require_free(self, name: str) -> Path:
        """`person_folder`, when nobody is there but a job of this page.

        Raises:
          InputError: as `person_folder`, or the folder is somebody else's.
        """
        folder = self.person_folder(name)
        if folder.exists() and not (folder / RECORD_FILE).is_file():
            raise InputError(f"{name} exists already and was not made on this page; choose another name")
        return folder

    def jobs(self) -> list[Job]:
        """Every job of this folder, by name."""
        self._poll()
        found = []
        for path in sorted(self.folder.glob(f"*/{RECORD_FILE}")):
            with contextlib.suppress(InputError, TypeError):
                job = Job(**read_json(path))
                # A studio that was killed left "running" behind.
                alive = self._running is not None and self._running.name == job.name
                found.append(job if alive or job.state != "running" else dataclasses.replace(job, state="stopped"))
        return found

    def job(self, name: str) -> Job:
        """The job of a person. Raises InputError where there is none."""
        for job in self.jobs():
            if job.name == name:
                return job
        raise InputError("there is no job of that name; choose one from the list")

    def start(self, job: Job) -> Job:
        """Starts or goes on with a job.

        Raises:
          InputError: another one is running, here or in another studio on the same folder; or `fit` without consent.
        """
        self._poll()
        if job.kind not in KINDS:
            raise InputError(f"a job is {' or '.join(KINDS)}")
        if job.kind == "fit" and not job.consent.strip():
            raise InputError("nobody has agreed yet; say who did, and when")
        if self._running is not None:
            raise InputError(f"{self._running.name} is being worked on; one job runs at a time: wait for it or stop it")
        folder = self.person_folder(job.name)
        with (self.folder / LOCK_FILE).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError("another studio is training in this folder; one job runs at a time: wait for it") from error
            with (folder / LOG_FILE).open("wb") as log:
                # The child holds the lock as well, and longer than a studio that is killed.
                self._process = subprocess.Popen(
                    self._command(job, folder),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=configs.repository(),
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                )
        self._running = dataclasses.replace(job, state="running", code=None)
        self._record(self._running)
        return self._running

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Tells the running job to stop where it can go on, and waits; after `seconds` it is killed."""
        self._poll()
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._poll(stopped=True)

    def log(self, name: str) -> str:
        """The end of what a job said; a progress line that was written over counts once."""
        path = self.person_folder(name) / LOG_FILE
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            _seek_end(stream, LOG_BYTES)
            text = stream.read().decode("utf-8", "replace")
        lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "\n".join(line for line in lines if line)).replace(f"{self.folder}/", "")

    def forget(self, name: str) -> None:
        """Deletes a job's folder while nothing was trained in it, so that its name is free again.

        Raises:
          InputError: it is running, or there are networks in it.
        """
        job = self.job(name)
        folder = self.person_folder(name)
        if job.state == "running" or any((folder / stage).exists() for stage in ("postnet", "head", "torso")):
            raise InputError(f"{name} has been trained already or is being worked on; delete its folder by hand if you mean to")
        shutil.rmtree(folder)

    def _command(self, job: Job, folder: Path) -> list[str]:
        words = [sys.executable, "-m", "geneface_jax", job.kind, str(folder / Path(job.video).name)]
        if job.kind == "prepare":
            return [*words, "--out", str(folder), "--size", str(job.size)]
        return [*words, "--out", str(folder), "--size", str(job.size), f"--consent={job.consent}", *self._fit_options]

    def _poll(self, stopped: bool = False) -> None:
        if self._process is None or self._running is None or (code := self._process.poll()) is None:
            return
        state = "finished" if code == 0 else "stopped" if stopped or code in _INTERRUPTED else "failed"
        self._record(dataclasses.replace(self._running, state=state, code=code))
        self._process = self._running = None

    def _record(self, job: Job) -> None:
        write_json(self.person_folder(job.name) / RECORD_FILE, dataclasses.asdict(job))


def report_rows(folder: Path) -> list[tuple[str, str]]:
    """What the data report of a person says, as rows of name and value; empty before there is one.

    Args:
      folder: the person's.
    """
    path = folder / "dataset" / "report.json"
    return _flat(read_json(path)) if path.is_file() else []


def _flat(report: Mapping | Sequence, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in report.items() if isinstance(report, Mapping) else ():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}: ")
        elif isinstance(value, bool | int | str):
            rows.append((f"{prefix}{name}".replace("_", " "), str(value)))
        elif isinstance(value, float):
            rows.append((f"{prefix}{name}".replace("_", " "), f"{value:.4g}"))
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            rows.append((f"{prefix}{name}".replace("_", " "), "; ".join(value)))
    return rows


def _seek_end(stream: IO[bytes], count: int) -> None:
    stream.seek(0, os.SEEK_END)
    stream.seek(max(stream.tell() - count, 0))


# ----------------------------------------------------------------------------------------------------
# What a training looks like from outside: the curves of the stage that is at work, and its latest pictures.

MAX_CHARTS, MAX_PICTURES = 6, 4


def stage_at_work(folder: Path) -> str | None:
    """The stage of a person that wrote last; None before any did."""
    written = [(path.stat().st_mtime, stage) for stage in STAGES if (path := folder / stage / METRICS_FILE).is_file()]
    return max(written)[1] if written else None


def curves(folder: Path, stage: str) -> Image.Image | None:
    """The stage's curves: validation first, then training losses; None before there are two points of any."""
    rows = read_metrics(folder / stage)
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for tag, value in row.items():
            if tag != "step" and np.isfinite(value):
                points.setdefault(tag, []).append((int(row["step"]), value))
    drawable = [tag for tag, values in points.items() if len(values) > 1]
    order = sorted(drawable, key=lambda tag: (not tag.startswith("val"), not tag.startswith("tr"), tag))
    if not order:
        return None
    steps = checkpoints.steps(folder / stage)
    charts = [Chart(tag, {tag: points[tag]}) for tag in order[:MAX_CHARTS]]
    return draw_curves(charts, steps[-1] if steps else -1, f"{folder.name}: {stage}")


def sample_pictures(folder: Path, stage: str) -> list[tuple[Image.Image, str]]:
    """The newest picture of every tag that the stage wrote for TensorBoard, with its tag and step."""
    newest: dict[str, tuple[int, bytes]] = {}
    for path in sorted((folder / stage / LOG_FOLDER).glob("events.out.tfevents.*")):
        for step, tag, data in _images(path):
            newest[tag] = step, data
    found = []
    for tag, (step, data) in sorted(newest.items()):
        with Image.open(io.BytesIO(data)) as picture:
            found.append((picture.convert("RGB"), f"{tag}, step {step}"))
    return found[:MAX_PICTURES]


def _images(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """(step, tag, encoded picture) of an event file; the record being written just now is left out."""
    from tensorboardX.proto.event_pb2 import Event

    with path.open("rb") as stream:
        while len(header := stream.read(12)) == 12:  # a TFRecord: length, its checksum, the data, its checksum
            (length,) = struct.unpack("<Q", header[:8])
            data = stream.read(length)
            if len(data) < length or len(stream.read(4)) < 4:
                return
            event = Event.FromString(data)
            for value in event.summary.value:
                if value.HasField("image"):
                    yield event.step, value.tag, value.image.encoded_image_string
