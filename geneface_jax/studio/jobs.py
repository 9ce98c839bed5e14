"""Training jobs started from the page: one at a time in a process of its own, with curves and sample pictures."""

import contextlib
import dataclasses
import fcntl
import io
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import read_json, write_json
from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import STAGES
from geneface_jax.training.reporting import LOG_FOLDER, METRICS_FILE, Chart, draw_curves, read_metrics

# -------- Job runner: one subprocess at a time, resumable after a stop or a restart of the studio
#
# A job is `geneface prepare` or `geneface fit` on `PEOPLE/NAME`, with the video in `source.*` and the job itself in `studio.json`, so
# that a studio started later can resume it.

RECORD_FILE, LOG_FILE, LOCK_FILE = "studio.json", "studio.log", ".studio-training.lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
KINDS = ("prepare", "fit")
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
        """All jobs of the folder, sorted by name."""
        self._poll()
        found = []
        for path in sorted(self.folder.glob(f"*/{RECORD_FILE}")):
            with contextlib.suppress(InputError, TypeError):
                job = Job(**read_json(path))
                # A studio that was killed leaves the state "running" in the file.
                is_running = self._running is not None and self._running.name == job.name
                found.append(job if is_running or job.state != "running" else dataclasses.replace(job, state="stopped"))
        return found

    def job(self, name: str) -> Job:
        """The job of a person. Raises InputError if there is none."""
        for job in self.jobs():
            if job.name == name:
                return job
        raise InputError("There is no job of that name: choose one from the list.")

    def start(self, job: Job) -> Job:
        """Starts or resumes a job.

        Raises:
          InputError: another job is running, here or in another studio on the same folder; or `fit` without consent.
        """
        self._poll()
        if job.kind not in KINDS:
            raise InputError(f"There is no job {job.kind!r}: give {' or '.join(KINDS)}.")
        if job.kind == "fit" and not job.consent.strip():
            raise InputError("Consent is missing: enter who agreed and when.")
        if self._running is not None:
            raise InputError(f"The job of {self._running.name} is still running: wait for it or stop it.")
        folder = self.person_folder(job.name)
        with (self.folder / LOCK_FILE).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError("Another studio is running a job in this folder: wait for it or stop it there.") from error
            with (folder / LOG_FILE).open("wb") as log:
                # The child inherits the lock, so it stays locked if the studio is killed.
                self._process = subprocess.Popen(
                    self._command(job, folder),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                )
        self._running = dataclasses.replace(job, state="running", code=None)
        self._save(self._running)
        return self._running

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Sends SIGTERM to the running job, after which it can be resumed, and waits; kills it after `seconds`."""
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

    def _poll(self, stopped: bool = False) -> None:
        if self._process is None or self._running is None or (code := self._process.poll()) is None:
            return
        state = "finished" if code == 0 else "stopped" if stopped or code in _INTERRUPTED else "failed"
        self._save(dataclasses.replace(self._running, state=state, code=code))
        self._process = self._running = None

    def _save(self, job: Job) -> None:
        write_json(self.person_folder(job.name) / RECORD_FILE, dataclasses.asdict(job))


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

MAX_CHARTS, MAX_PICTURES = 6, 4


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
        with Image.open(io.BytesIO(data)) as picture:
            found.append((picture.convert("RGB"), f"{tag}, step {step}"))
    return found[:MAX_PICTURES]


def _images(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """(step, tag, encoded picture) of an event file; an incomplete last record is ignored."""
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
