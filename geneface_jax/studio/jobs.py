"""Training jobs started from the page: one at a time in a process of its own, with curves and sample pictures."""

import contextlib
import dataclasses
import fcntl
import io
import logging
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import atomic_path, disk_errors_as_input_errors, read_json, require_space, write_bytes, write_json
from data_tools.records import Field, read_record
from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import STAGES
from geneface_jax.training.reporting import LOG_FOLDER, METRICS_FILE, Chart, draw_curves, read_metrics

logger = logging.getLogger(__name__)

# -------- Job runner: one subprocess at a time, resumable after a stop or a restart of the studio
#
# A job is `geneface prepare` or `geneface fit` on `PEOPLE/NAME`, with the video in `source.*` and the job itself in `studio.json`, so
# that a studio started later can resume it.

RECORD_FILE, LOG_FILE, LOCK_FILE = "studio.json", "studio.log", ".studio-training.lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
KINDS = ("prepare", "fit")
STATES = ("running", "finished", "stopped", "failed")
PREVIOUS = ".previous-"
"""Prefix of a video that is being replaced, until the new one's job has started."""
STOP_SECONDS = 60.0
"""A stage that receives SIGTERM finishes its step and writes a checkpoint first."""
LOG_BYTES = 8000
_INTERRUPTED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a job that was stopped; any other non-zero code is a failure."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Preparation or training of one person.

    Attributes:
      name: of the person.
      kind: "prepare" or "fit".
      video: file name of the video in the person's folder.
      size: pixels per side of the pictures.
      consent: who agreed and when; "" if not stated yet.
      state: "running", "finished", "stopped" or "failed".
      code: exit code; None until the process ended.
    """

    name: str
    kind: str
    video: str
    size: int
    consent: str = ""
    state: str = "stopped"
    code: int | None = None


class JobRunner:
    """Runs the jobs of a folder of persons.

    Args:
      folder: of subject folders.
      fit_options: further arguments of every `geneface fit` (tests shorten the training with them).
    """

    def __init__(self, folder: str | os.PathLike[str], fit_options: Sequence[str] = ()):
        self.folder, self._fit_options = Path(folder), tuple(fit_options)
        self._process: subprocess.Popen | None = None
        self._running: Job | None = None
        self._stopping = False
        self._starting, self._state = threading.Lock(), threading.Lock()

    def person_folder(self, name: str) -> Path:
        """The folder for a name, which need not exist.

        Raises:
          InputError: the name is not allowed.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError("That name is not allowed: give 1 to 40 letters, digits, - or _, beginning with a letter or digit.")
        return self.folder / name

    def require_free(self, name: str) -> Path:
        """`person_folder`, if it does not exist or belongs to a job of this page.

        Raises:
          InputError: as `person_folder`, or the folder was made elsewhere.
        """
        folder = self.person_folder(name)
        if folder.exists() and not (folder / RECORD_FILE).is_file():
            raise InputError(f"{name} exists already and was not made on this page: choose another name.")
        return folder

    def jobs(self) -> list[Job]:
        """All jobs of the folder, sorted by name; what is no job's file is left out and logged."""
        self._poll()
        running = self._running
        found = []
        for path in sorted(self.folder.glob(f"*/{RECORD_FILE}")):
            try:
                job = _read_job(path)
            except InputError as error:
                logger.warning("%s", error)
                continue
            # A studio that was killed leaves the state "running" in the file.
            is_running = running is not None and running.name == job.name
            found.append(job if is_running or job.state != "running" else dataclasses.replace(job, state="stopped"))
        return found

    def job(self, name: str) -> Job:
        """The job of a person. Raises InputError if there is none."""
        for job in self.jobs():
            if job.name == name:
                return job
        raise InputError("There is no job of that name: choose one from the list.")

    def start(self, job: Job, video: Path | None = None) -> Job:
        """Starts or resumes a job.

        Args:
          job: what to run.
          video: copied to the person's folder as `job.video`; None if it is there already.

        Raises:
          InputError: another job is running, here or in another studio on the same folder; `fit` without consent; with a video, the person
            was not made on this page; no space for the video. The person's folder is as it was before.
        """
        if job.kind not in KINDS:
            raise InputError(f"There is no job {job.kind!r}: give {' or '.join(KINDS)}.")
        if job.kind == "fit" and not job.consent.strip():
            raise InputError("Consent is missing: enter who agreed and when.")
        folder = self.person_folder(job.name)
        if not self._starting.acquire(blocking=False):
            raise InputError("Another job is being started: wait for it.")
        try:
            self._poll()
            if self._running is not None:
                raise InputError(f"The job of {self._running.name} is still running: wait for it or stop it.")
            with (self.folder / LOCK_FILE).open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise InputError("Another studio is running a job in this folder: wait for it or stop it there.") from error
                if video is not None:
                    self.require_free(job.name)
                with disk_errors_as_input_errors(folder), self._prepared(job, folder, video) as running:
                    self._launch(running, folder, lock)
            return running
        finally:
            self._starting.release()

    @contextlib.contextmanager
    def _prepared(self, job: Job, folder: Path, video: Path | None) -> Iterator[Job]:
        """Writes the record and the video of a job that is about to start; if the block raises, they are what they were before."""
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        record, target = folder / RECORD_FILE, folder / Path(job.video).name
        previous = folder / f"{PREVIOUS}{target.name}"
        before = record.read_bytes() if record.is_file() else None
        running = dataclasses.replace(job, state="running", code=None)
        try:
            _settle_previous(folder, started=b'"state": "running"' in (before or b""))
            # The record comes first, so that a folder left by a studio that was killed is known as this page's.
            self._save(dataclasses.replace(job, state="stopped", code=None))
            if video is not None:
                require_space(folder, video.stat().st_size, "the video")
                with atomic_path(target) as temporary:
                    shutil.copyfile(video, temporary)
                    if target.exists():
                        os.replace(target, previous)
            self._save(running)
            yield running
        except BaseException:
            if made:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                _settle_previous(folder, started=False)
                if before is None:
                    record.unlink(missing_ok=True)
                else:
                    write_bytes(record, before)
            raise
        previous.unlink(missing_ok=True)

    def _launch(self, job: Job, folder: Path, lock: IO[str]) -> None:
        with (folder / LOG_FILE).open("wb") as log:
            # The child inherits the lock, so it stays locked if the studio is killed.
            process = subprocess.Popen(
                self._command(job, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )
        with self._state:
            self._process, self._running, self._stopping = process, job, False

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Sends SIGTERM to the running job, after which it can be resumed, and waits; kills it after `seconds`."""
        self._poll()
        with self._state:
            process, self._stopping = self._process, True
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._poll()

    def log(self, name: str) -> str:
        """The end of a job's output; of a progress line that was overwritten, only the last text."""
        path = self.person_folder(name) / LOG_FILE
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            stream.seek(max(path.stat().st_size - LOG_BYTES, 0))
            text = stream.read().decode("utf-8", "replace")
        lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "\n".join(line for line in lines if line)).replace(f"{self.folder}/", "")

    def _command(self, job: Job, folder: Path) -> list[str]:
        # -P: the current folder, which may hold anything, is no place to import from.
        command = [sys.executable, "-P", "-m", "geneface_jax", job.kind, str(folder / Path(job.video).name)]
        command += ["--out", str(folder), "--size", str(job.size)]
        return command if job.kind == "prepare" else [*command, f"--consent={job.consent}", *self._fit_options]

    def _poll(self) -> None:
        """Notes the end of the running job; called from many threads."""
        with self._state:
            if self._process is None or self._running is None or (code := self._process.poll()) is None:
                return
            state = "finished" if code == 0 else "stopped" if self._stopping or code in _INTERRUPTED else "failed"
            job, self._process, self._running = self._running, None, None
        # The folder may have been deleted, or the disk may be full: the job has ended nevertheless.
        try:
            self._save(dataclasses.replace(job, state=state, code=code))
        except OSError as error:
            logger.warning("The end of the job of %s could not be noted (%s).", job.name, error)

    def _save(self, job: Job) -> None:
        write_json(self.person_folder(job.name) / RECORD_FILE, dataclasses.asdict(job), checksum=True)


_JOB = {
    "name": Field(str, pattern=NAME),
    "kind": Field(str, choices=KINDS),
    "video": Field(str, pattern=re.compile(r"source[^/\\\x00]{0,20}")),
    "size": Field(int, low=64, high=2048),
    "consent": Field(str, high=10_000),
    "state": Field(str, choices=STATES),
    "code": Field(int, low=-(2**31), high=2**32, optional=True),
}


def _read_job(path: Path) -> Job:
    """The job in a file. Raises InputError if it is none, or another person's."""
    record = read_record(path, _JOB, remedy := "delete it and start the job again")
    if record["name"] != path.parent.name:
        raise InputError(f"{path} is of another person, {record['name']}: {remedy}.")
    return Job(**{name: record.get(name) for name in _JOB})


def _settle_previous(folder: Path, started: bool) -> None:
    """Ends the replacement of a video that was cut short: the previous one comes back if the new one's job was not `started`."""
    for path in folder.glob(f"{PREVIOUS}*"):
        if started:
            path.unlink()
        else:
            os.replace(path, path.with_name(path.name.removeprefix(PREVIOUS)))


def report_rows(folder: Path) -> list[tuple[str, str]]:
    """The data report in a person's folder as rows of name and value; empty without a report."""
    path = folder / "dataset" / "report.json"
    return _flatten(read_json(path)) if path.is_file() else []


def _flatten(report: Mapping | Sequence, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in report.items() if isinstance(report, Mapping) else ():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{name}: ")
        elif isinstance(value, bool | int | str):
            rows.append((f"{prefix}{name}".replace("_", " "), str(value)))
        elif isinstance(value, float):
            rows.append((f"{prefix}{name}".replace("_", " "), f"{value:.4g}"))
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            rows.append((f"{prefix}{name}".replace("_", " "), "; ".join(value)))
    return rows


# -------- Monitoring of a training: curves and sample pictures of the active stage

MAX_CHARTS, MAX_PICTURES, MAX_PIXELS = 6, 4, 1 << 24


def active_stage(folder: Path) -> str | None:
    """The stage that wrote metrics last; None before any did."""
    written = [(path.stat().st_mtime, stage) for stage in STAGES if (path := folder / stage / METRICS_FILE).is_file()]
    return max(written)[1] if written else None


def curves(folder: Path, stage: str) -> Image.Image | None:
    """The stage's curves, validation first, then training losses; None if no curve has two points yet."""
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
    """The newest picture of every TensorBoard tag of the stage, with its tag and step."""
    newest: dict[str, tuple[int, bytes]] = {}
    for path in sorted((folder / stage / LOG_FOLDER).glob("events.out.tfevents.*")):
        for step, tag, data in _images(path):
            newest[tag] = step, data
    found = []
    for tag, (step, data) in sorted(newest.items()):
        # A damaged picture is left out: Pillow's decoders raise a dozen kinds.
        with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=("PNG", "GIF")) as picture:
            if picture.width * picture.height <= MAX_PIXELS:
                found.append((picture.convert("RGB"), f"{tag}, step {step}"))
    return found[:MAX_PICTURES]


def _images(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """(step, tag, encoded picture) of an event file; an incomplete last record is ignored."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    with path.open("rb") as stream:
        while len(header := stream.read(12)) == 12:  # a TFRecord: length, its checksum, the data, its checksum
            (length,) = struct.unpack("<Q", header[:8])
            # A damaged length may be any number.
            data = stream.read(min(length, path.stat().st_size))
            if len(data) < length or len(stream.read(4)) < 4:
                return
            try:
                event = Event.FromString(data)
            except DecodeError:  # a damaged record; whatever follows it can't be found
                return
            for value in event.summary.value:
                if value.HasField("image"):
                    yield event.step, value.tag, value.image.encoded_image_string
