"""Mutation fuzzing of the readers of our own files and of the originals' ones: bits, blocks, lengths and values are changed, seeded.

Every mutation must be refused with an InputError or be read, within `SECONDS` and `MEGABYTES`. Where a checksum covers a file, what is read
must be what was written. `scripts/bench/fuzz.py` makes many, `tests/test_fuzz.py` a few.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import re
import resource
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError
from data_tools.face.crop import CropRecord, load_record, save_record
from data_tools.io import read_npz, write_json, write_npz
from geneface_jax.convert import restricted_unpickle, torch_checkpoint
from geneface_jax.convert.dataset import read_trainval
from geneface_jax.convert.release import import_checkpoint
from geneface_jax.convert.speech import SYNCNET
from geneface_jax.data.corpus import Corpus
from geneface_jax.data.subject import Subject
from geneface_jax.inference import provenance
from geneface_jax.io import checkpoints, configs, cull
from geneface_jax.io.cull import Cull
from geneface_jax.io.weights import read_safetensors, write_safetensors
from geneface_jax.pipeline import RECORD_FILE, _read_record
from geneface_jax.studio import jobs
from geneface_jax.training.recovery import NanRecovery
from geneface_jax.training.reporting import Summaries, read_metrics
from tests.geneface_jax.convert.originals import state_dict
from tests.geneface_jax.convert.person_files import write_person
from tests.synthetic_corpus import write_corpus
from tests.synthetic_subject import write_subject

SECONDS, MEGABYTES = 5.0, 200
"""What one mutation may take."""

# -------- Mutations

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**64 - 1)
VALUES = (None, True, -1, 0, 1, 10**30, 1e308, float("nan"), "", "..", "/etc/passwd", "a\0b", [], {}, [[]], "x" * 3000)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three random changes of some bytes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.3 else 1):
        if not out:
            return bytes(out)
        at, size = int(rng.integers(len(out))), int(rng.integers(1, min(len(out), 512) + 1))
        kind = int(rng.integers(8))
        if kind <= 1:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            out[at : at + size] = bytes(len(out[at : at + size]))
        elif kind == 5:
            del out[at : at + size]
        elif kind == 6:
            out[at : at + size] = rng.bytes(len(out[at : at + size]))
        else:
            width, order = (1, 2, 4, 8)[int(rng.integers(4))], ("little", "big")[int(rng.integers(2))]
            extreme = EXTREMES[int(rng.integers(len(EXTREMES)))] % 256**width
            out[at : at + width] = extreme.to_bytes(width, order)
    return bytes(out)


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Another value, or none, somewhere in a JSON file, which has no checksum afterwards, like those of older versions."""
    value = json.loads(data)
    if isinstance(value, dict):
        value.pop("checksum", None)
    root: list[Any] = [value]
    holder, key = root, 0
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        key = list(holder)[int(rng.integers(len(holder)))] if isinstance(holder, dict) else int(rng.integers(len(holder)))
    other = VALUES[int(rng.integers(len(VALUES)))]
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
    elif isinstance(holder[key], int | float) and rng.random() < 0.5:
        holder[key] = holder[key] * int(rng.choice([-1, 2, 1000]))
    else:
        holder[key] = other
    return json.dumps(root[0]).encode()


# -------- Readers


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
      make: writes whole files into a folder, and returns those to change.
      read: reads the folder; its value can be compared.
      exact: whether every change of a byte must be noticed, or must not matter.
      may_be: further values that an exact reader may return.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    exact: bool = False
    may_be: tuple[Any, ...] = ()


def _npy(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", np.arange(60.0).reshape(3, 4, 5))
    return [folder / "a.npy"]


def _trainval(folder: Path) -> list[Path]:
    return [write_person(folder / "original", plus=False, frames=6, size=8, channels=4).npy]


def _trainval_plus(folder: Path) -> list[Path]:
    return [write_person(folder / "original", plus=True, frames=11, size=8, channels=4).npy]


def _npz(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    return [write_npz(folder / "a.npz", numbers=rng.normal(size=(7, 5)), flags=rng.random(9) < 0.5, text=np.array(["a", "bc"]))]


def _safetensors(folder: Path) -> list[Path]:
    arrays = {"a/kernel": np.ones((3, 4), np.float32), "b": np.arange(5), "half": np.ones(2, np.float16), "none": np.zeros((0, 3))}
    return [write_safetensors(folder / "a.safetensors", arrays, {"step": "3"})]


def _checkpoint(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    state = {"params": {"w": rng.normal(size=(30, 4)).astype(np.float32), "b": np.ones(3, np.float32)}}
    config = {"stage": "toy", "train": {"steps": 3}}
    saved = checkpoints.save(folder, 3, state, {"config": config, "metrics": {"val/error": 0.5}})
    return [path for path in saved.rglob("*") if path.is_file() and path.name != "commit_success.txt"]


def _manifest(folder: Path) -> list[Path]:
    return [path for path in _checkpoint(folder) if path.name == "manifest.json"]


def _unlisted_checkpoint(folder: Path) -> list[Path]:
    files = [path for path in _checkpoint(folder) if path.name != "manifest.json"]
    (folder / "checkpoints" / "3" / "manifest.json").unlink()
    return files


def _read_checkpoint(folder: Path) -> Any:
    wrong = checkpoints.damage(folder, 3)
    loaded = checkpoints.load(folder)
    assert wrong is None, "load accepted what damage() told"
    return loaded.state, configs.to_json(loaded.config), loaded.step, loaded.metrics


ORIGIN = provenance.Provenance("Anna", "0123456789abcdef", "Anna Ä, <today> & for ever")


def _video(folder: Path) -> list[Path]:
    boxes = (b"ftyp", b"isom" * 4), (b"moov", bytes(40)), (b"mdat", bytes(range(100)))
    content = b"".join(struct.pack(">I4s", 8 + len(data), kind) + data for kind, data in boxes)
    (folder / "a.mp4").write_bytes(content + provenance.uuid_box(ORIGIN))
    return [folder / "a.mp4"]


def _corpus(folder: Path) -> list[Path]:
    write_corpus(folder, frames=12, clips_per_speaker=1)
    write_json(folder / "meta.json", json.loads((folder / "meta.json").read_text()), checksum=True)
    return [folder / "meta.json", folder / "clips.npz"]


def _streamed_corpus(folder: Path) -> list[Path]:
    write_corpus(folder, frames=12, clips_per_speaker=1)
    meta = json.loads((folder / "meta.json").read_text()) | {"format_version": 2}
    (folder / "clips").mkdir()
    with np.load(folder / "clips.npz") as arrays:
        for clip in meta["clips"]:
            stored = {key: arrays[f"{clip['name']}/{key}"] for key in ("audio_features", "f0", "motion")}
            moments = {"motion_mean": stored["motion"].mean(0), "motion_mean_square": np.square(stored["motion"]).mean(0)}
            np.savez(folder / "clips" / f"{clip['name']}.npz", **stored, **moments)
    (folder / "clips.npz").unlink()
    write_json(folder / "meta.json", meta, checksum=True)
    return [folder / "meta.json", *sorted((folder / "clips").iterdir())]


def _read_corpus(folder: Path) -> Any:
    corpus = Corpus.load(folder)
    clips = [(clip.name, clip.speaker, clip.split, *clip.moments, *dataclasses.astuple(clip.read())) for clip in corpus.clips]
    return corpus.meta, clips


def _dataset(folder: Path) -> list[Path]:
    dataset = write_subject(folder / "dataset", frames=11, size=16)
    for name in ("frames", "head", "torso"):
        shutil.rmtree(dataset / name)
    write_json(dataset / "meta.json", json.loads((dataset / "meta.json").read_text()), checksum=True)
    return [dataset / "meta.json", dataset / "arrays.npz"]


def _background(folder: Path) -> list[Path]:
    _dataset(folder)
    return [folder / "dataset" / "background.png"]


def _read_dataset(folder: Path) -> Any:
    return {name: value for name, value in vars(Subject.load(folder)).items() if name != "folder"}


def _crop_record(folder: Path) -> list[Path]:
    record = CropRecord(640, 360, 200, np.array([[10.125, 20.5], [11.0, 21.0]]), 25.0, 1.5, 2)
    save_record(folder / "a.crop.json", record, {"file": "a.mp4", "sha256": "0" * 64})
    return [folder / "a.crop.json"]


def _cull(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    return [Cull("0" * 16, "1" * 16, rng.random((32, 32, 32)) < 0.1, rng.random((40, 40)) < 0.5).save(folder)]


def _records(folder: Path) -> list[Path]:
    """The records of a work folder and of `fit`."""
    _checkpoint(folder)
    configs.save(configs.from_json({"stage": "toy", "train": {"steps": 3, "lr": 0.5}, "rates": [1, 2]}), folder)
    checkpoints.write_selected_step(folder, 3, {"verdict": "sound"})
    write_json(folder / "returns.json", {"returns": [{"step": 2, "metrics": ["loss"], "back_to": 0}]}, checksum=True)
    write_json(folder / RECORD_FILE, {"dataset": "0" * 64, "from": None, "minutes": {"prepare": 0.5}}, checksum=True)
    return [folder / name for name in (configs.CONFIG_FILE, checkpoints.SELECTED_FILE, "returns.json", RECORD_FILE)]


def _read_records(folder: Path) -> Any:
    return (
        configs.to_json(configs.load_saved(folder)),
        checkpoints.read_selected_step(folder),
        NanRecovery(folder, 3, 0.5).rate,
        _read_record(folder / RECORD_FILE),
    )


def _studio(folder: Path) -> list[Path]:
    person = folder / "anna"
    workdir = person / "head"
    workdir.mkdir(parents=True)
    runner = jobs.JobRunner(folder)
    runner._save(jobs.Job("anna", "fit", "source.mp4", 256, "Anna, today", "failed", 1))
    (person / jobs.LOG_FILE).write_bytes(b"step 1\rstep 2\nthe end\n" * 5)
    (person / "dataset").mkdir()
    write_json(person / "dataset" / "report.json", {"name": "anna", "values": {"a": 1.5}, "lights": {"a": "green"}}, checksum=True)
    summaries = Summaries(workdir, 0)
    for step in range(4):
        summaries.scalars(step, {"tr/loss": 1.0 / (step + 1)})
    summaries._board.add_image("val/picture", np.full((8, 8, 3), 9, np.uint8), 3, dataformats="HWC")
    summaries.close()
    names = (jobs.RECORD_FILE, jobs.LOG_FILE, "dataset/report.json", "head/metrics.jsonl")
    return [*(person / name for name in names), *workdir.glob("tensorboard/events*")]


def _read_studio(folder: Path) -> Any:
    runner, person = jobs.JobRunner(folder), folder / "anna"
    with contextlib.suppress(InputError):
        jobs.report_rows(person)
    if jobs.active_stage(person):
        jobs.curves(person, "head"), jobs.sample_pictures(person, "head"), read_metrics(person / "head")
    runner.log("anna")
    return runner.jobs()


def _torch_checkpoint(zipped: bool) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        import torch

        weights = {name: torch.from_numpy(np.array(value)) for name, value in state_dict(SYNCNET, base=4).items()}
        content = {"global_step": 70, "optimizer_states": [{"lr": np.float64(1e-4)}], "state_dict": {"model": weights}}
        torch.save(content, folder / "model_ckpt_steps_70.ckpt", _use_new_zipfile_serialization=zipped)
        return [folder / "model_ckpt_steps_70.ckpt"]

    return make


def _read_torch(folder: Path) -> Any:
    return import_checkpoint(torch_checkpoint.read(folder)).state


def _yaml(folder: Path) -> list[Path]:
    lines = [
        "base_config: [egs/base.yaml]",
        "lr: 1e-3",
        "shared: &id001 [1, 2, 25_0000]",
        "again: *id001",
        "when: 2023-01-02",
        "deep: {a: {b: [x]}}",
    ]
    (folder / "config.yaml").write_text("\n".join(lines) + "\n")
    return [folder / "config.yaml"]


TARGETS = {
    "npy": Target(_npy, lambda folder: restricted_unpickle.load(folder / "a.npy")),
    "trainval of GeneFace": Target(_trainval, lambda folder: vars(read_trainval(next(folder.rglob("*.npy"))))),
    "trainval of GeneFace++": Target(_trainval_plus, lambda folder: vars(read_trainval(next(folder.rglob("trainval*.npy"))))),
    "npz": Target(_npz, lambda folder: read_npz(folder / "a.npz"), exact=True),
    "safetensors": Target(_safetensors, lambda folder: read_safetensors(folder / "a.safetensors")),
    "checkpoint": Target(_checkpoint, _read_checkpoint, exact=True),
    "manifest": Target(_manifest, _read_checkpoint, exact=True),
    "checkpoint without a manifest": Target(_unlisted_checkpoint, _read_checkpoint),
    "provenance": Target(_video, lambda folder: provenance.read(folder / "a.mp4"), exact=True, may_be=(None,)),
    "corpus": Target(_corpus, _read_corpus, exact=True),
    "streamed corpus": Target(_streamed_corpus, _read_corpus, exact=True),
    "dataset": Target(_dataset, _read_dataset, exact=True),
    "background": Target(_background, _read_dataset, exact=True),
    "cull": Target(_cull, lambda folder: vars(cull.read(folder)), exact=True),
    "crop record": Target(_crop_record, lambda folder: vars(load_record(folder / "a.crop.json")), exact=True),
    "records of a run": Target(_records, _read_records, exact=True),
    "studio": Target(_studio, _read_studio, exact=True, may_be=([],)),
    "config.yaml": Target(_yaml, lambda folder: torch_checkpoint.read_hparams(folder / "config.yaml")),
    "torch checkpoint": Target(_torch_checkpoint(True), _read_torch),
    "torch checkpoint before 1.6": Target(_torch_checkpoint(False), _read_torch),
}
"""Name -> reader. The last two need PyTorch."""
NEED_TORCH = tuple(name for name in TARGETS if name.startswith("torch"))


# -------- Running


class TooLate(BaseException):
    """Not an Exception: the readers turn those into sentences."""


@dataclasses.dataclass
class Outcome:
    """Result of many mutations of one reader.

    Attributes:
      counts: "refused", "read" (of these "unchanged").
      failures: what went wrong, with the number of the mutation.
      slowest: seconds. most_memory: MB above what was there before.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    slowest: float = 0.0
    most_memory: float = 0.0


def fuzz(target: Target, count: int, folder: Path, seed: int = 0) -> Outcome:
    """Makes `count` mutations of the target's files below `folder`, one at a time, and reads each."""
    outcome = Outcome()
    files = target.make(folder)
    before = target.read(folder)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        path = files[int(rng.integers(len(files)))]
        whole = path.read_bytes()
        is_old = path.suffix == ".json" and rng.random() < 0.4
        path.write_bytes(mutate_json(whole, rng) if is_old else mutate(whole, rng))
        started, base = time.perf_counter(), _memory(reset=True)
        try:
            with _time_limit():
                found = target.read(folder)
        except InputError as error:
            outcome.counts["refused"] += 1
            if "\n" in str(error) or len(str(error)) > 2000:
                outcome.failures.append(f"{number}: not one sentence: {str(error)[:200]!r}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome.failures.append(f"{number} ({path.name}): {type(error).__name__}: {str(error)[:200]}")
        else:
            unchanged = same(found, before)
            outcome.counts["read"] += 1
            outcome.counts["unchanged"] += unchanged
            if target.exact and not (is_old or unchanged or any(same(found, other) for other in target.may_be)):
                outcome.failures.append(f"{number} ({path.name}): a change was not noticed")
        finally:
            path.write_bytes(whole)
        seconds, memory = time.perf_counter() - started, (_memory() - base) / 2**20
        outcome.slowest, outcome.most_memory = max(outcome.slowest, seconds), max(outcome.most_memory, memory)
        if memory > MEGABYTES:
            outcome.failures.append(f"{number} ({path.name}): {memory:.0f} MB")
    return outcome


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TooLate

    previous = signal.signal(signal.SIGALRM, late)
    # Again and again: what is raised in a callback of the garbage collector is lost.
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


def _memory(reset: bool = False) -> int:
    """Bytes: the peak since the last reset; with `reset`, what is used now. Where Linux's /proc is missing, the process's peak so far."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        found = re.search(rf"{'VmRSS' if reset else 'VmHWM'}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in all parts."""
    if dataclasses.is_dataclass(a) and type(a) is type(b):
        a, b = vars(a), vars(b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b
