"""Building a corpus from a folder of videos: resumable, one clip in memory at a time, readable while it grows."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_tools.audio.features import MEL_F0, AudioFeatures, mel_f0
from data_tools.audio.load import SAMPLE_RATE
from data_tools.command_line import bar as progress_bar
from data_tools.corpus.measure import Span, UnusableError, measure_clip
from data_tools.corpus.publish import FORMAT, FORMAT_VERSION, histogram, publish
from data_tools.corpus.sources import CorpusSettings, MeasureSettings, SourceVideo, find_sources
from data_tools.errors import InputError
from data_tools.face.track import detect
from data_tools.ffmpeg import VideoInfo, probe
from data_tools.io import disk_full_as_input_error, file_sha256, settings_fingerprint
from data_tools.video.read import FPS

# ----------------------------------------------------------------------------------------------------
# A clip's file: `clips/NAME.npz`, the arrays of docs/file-formats.md and the moments that readers need before they read any frame.

FOLDER = "clips"


def clip_path(corpus: Path, name: str) -> Path:
    """Where the clip of that name lies."""
    return corpus / FOLDER / f"{name}.npz"


def write_clip(corpus: Path, name: str, arrays: dict[str, np.ndarray]) -> Path:
    """Writes a clip under a temporary name and renames it.

    Args:
      corpus: the corpus folder.
      name: the clip's name, which may have folders in it.
      arrays: audio_features [2T, C], f0 [2T], motion [T, 204], float; stored as float16, uncompressed (float16 noise hardly compresses, and
        reading is what training does all day), with motion_mean and motion_mean_square [204] float32 over what is stored.
    """
    path = clip_path(corpus, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {key: np.asarray(arrays[key], np.float16) for key in ("audio_features", "f0", "motion")}
    motion = stored["motion"].astype(np.float64)
    moments = {"motion_mean": motion.mean(0).astype(np.float32), "motion_mean_square": np.square(motion).mean(0).astype(np.float32)}
    # The same name every time: what a killed run left is overwritten when the clip is made again.
    temporary = path.with_name(f".{path.name}.tmp.npz")
    try:
        np.savez(temporary, **stored, **moments)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_clip(path: Path) -> dict[str, np.ndarray]:
    """audio_features, f0 and motion of a clip's file, float32."""
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key].astype(np.float32) for key in ("audio_features", "f0", "motion")}


# ----------------------------------------------------------------------------------------------------
# What is known of every clip so far: one JSON line each, appended when the clip's file stands.
#
# A run that was killed in the middle of a line loses that clip's line alone; later lines about a clip replace earlier ones.

FILE = "journal.jsonl"


class Journal:
    """The records of a corpus folder, by clip name; see `build.record_of` for a record's fields."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.records: dict[str, dict[str, Any]] = {}
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            try:
                record = json.loads(line)
                self.records[record["name"]] = record
            except (ValueError, KeyError, TypeError):
                continue
        if lines and not lines[-1].endswith(b"\n"):
            # The next record must not be glued to a torn one.
            with open(self.path, "ab") as stream:
                stream.write(b"\n")

    def add(self, record: dict[str, Any]) -> None:
        """Keeps a record, on disk before in memory."""
        line = json.dumps(record, ensure_ascii=False).encode("utf-8") + b"\n"
        with open(self.path, "ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.records[record["name"]] = record


# ----------------------------------------------------------------------------------------------------
# One piece of a video -> its file and its record. Runs in the main process or in a worker; touches nothing but the piece's own file.


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of a source: number `index` of `count`, seconds `span` (None: all of it). `info` is None where it can't be read."""

    source: SourceVideo
    sha256: str
    index: int
    count: int
    span: Span
    info: VideoInfo | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The clip's name."""
        return self.source.name if self.count == 1 else f"{self.source.name}@{self.index:04d}"


def pieces_of(source: SourceVideo, sha256: str, piece_seconds: float) -> list[Piece]:
    """Cuts a source into equal pieces of at most `piece_seconds`, on frame borders; one that can't be read is one piece without facts."""
    try:
        info = probe(source.path)
    except InputError as error:
        return [Piece(source, sha256, 0, 1, None, None, str(error))]
    count = max(math.ceil(info.seconds / piece_seconds - 1e-6), 1)
    if count == 1:
        return [Piece(source, sha256, 0, 1, None, info)]
    borders = [round(info.seconds * FPS * i / count) / FPS for i in range(count + 1)]
    return [Piece(source, sha256, i, count, (borders[i], borders[i + 1]), info) for i in range(count)]


def work(piece: Piece, corpus: Path, settings: MeasureSettings, audio: AudioFeatures, key: str) -> dict[str, Any]:
    """Measures a piece and writes its file.

    Returns:
      The record of the journal: `name`, `source`, `sha256` (of the video), `piece` [index, count], `key` (of settings and code), then
      either `measured` (fields of `Measurements`), `n_frames` and `file_sha256`, or `dropped` (a key of `filters.REASONS`) and `sentence`.
    """
    record: dict[str, Any] = {
        "name": piece.name,
        "source": piece.source.name,
        "sha256": piece.sha256,
        "piece": [piece.index, piece.count],
        "key": key,
    }
    try:
        if piece.info is None:
            raise UnusableError("unreadable", piece.problem)
        arrays, measured = measure_clip(piece.source.path, piece.info, piece.span, settings, audio)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise UnusableError("failed", "landmarks or sound became values that are not finite")
    except UnusableError as error:
        clip_path(corpus, piece.name).unlink(missing_ok=True)
        return {**record, "dropped": error.reason, "sentence": str(error)}
    except (ArithmeticError, ValueError, RuntimeError) as error:
        # One odd clip among a hundred thousand must not end days of work; it stands in the journal with its message.
        clip_path(corpus, piece.name).unlink(missing_ok=True)
        return {**record, "dropped": "failed", "sentence": f"{type(error).__name__}: {error}"}
    path = write_clip(corpus, piece.name, arrays)
    return {**record, "measured": dataclasses.asdict(measured), "n_frames": len(arrays["motion"]), "file_sha256": file_sha256(path)}


# ----------------------------------------------------------------------------------------------------
# From a folder of videos to a corpus: resumable, one clip in memory at a time, readable while it grows.
#
# The state lies in three places, written in this order: a clip's file (renamed when whole), its line in the journal, and now and then
# meta.json, which names only clips that have both. So a run may be killed anywhere; the next one takes a video's records as they stand when
# the video's sha256, the settings they were measured with, and the sha256 of their files are still the same.

RECIPE_VERSION = 1
"""Raised when clips should be measured again although no setting has changed."""

PUBLISH_SECONDS = 30.0
"""meta.json is at least this old before it is written again; longer where writing it takes long."""

PUBLISH_SHARE = 20.0
"""... at least this many times as long as the last writing took."""


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A judge of sync.

    Attributes:
      name: changes when the judge does; a score is kept with it.
      score: arrays of a clip (`clip_file.read_clip`) -> -1..1, or None where it can't tell.
    """

    name: str
    score: Callable[[dict[str, np.ndarray]], float | None]


def build_corpus(
    videos: str | os.PathLike,
    out: str | os.PathLike,
    settings: CorpusSettings,
    *,
    audio: AudioFeatures = MEL_F0,
    scorer: Scorer | None = None,
    workers: int = 1,
    limit: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Makes or continues a corpus (docs/file-formats.md, format version 2).

    Args:
      videos: an LRS3 tree or any folder of videos.
      out: the corpus folder; a corpus made by this function is continued.
      settings: configs/corpus.py as `CorpusSettings.from_mapping` reads it.
      audio: the audio features; others than mel_f0 come with their own code (`geneface_jax.inference.audio_features`) and want one worker.
      scorer: a trained SyncNet's opinion, used by the filter `sync_score`.
      workers: processes that measure clips; 1 works in this process.
      limit: look at so many videos only (they are spread over the speakers).
      progress: whether to draw a progress bar.

    Returns:
      The content of report.json.

    Raises:
      InputError: no videos, a single speaker, no two speakers left after filtering, `out` holds something else, MediaPipe can't run, or the
        disk is full. What was measured stays, for the next run.
    """
    videos, out = Path(videos), Path(out)
    sources = find_sources(videos, settings.speaker)
    if len({source.speaker for source in sources}) == 1:
        raise InputError(
            f"every video in {videos} belongs to one speaker ({sources[0].speaker}), but one must be held out: "
            "add videos of others in folders of their own, or write --config.speaker=file if every file shows somebody else."
        )
    _check_out(out)
    if workers > 1 and audio is not MEL_F0:
        raise InputError(f"{audio.name} features are computed in one process: leave --workers out.")
    detect(iter(()), FPS)  # MediaPipe that can't start is no fault of the first clip
    with disk_full_as_input_error(out):
        out.mkdir(parents=True, exist_ok=True)
        return _Build(sources, out, settings, audio, scorer).run(max(workers, 1), limit, progress)


class _Build:
    """One run over all sources."""

    def __init__(
        self, sources: list[SourceVideo], out: Path, settings: CorpusSettings, audio: AudioFeatures, scorer: Scorer | None
    ) -> None:
        self.sources, self.out, self.settings, self.audio, self.scorer = sources, out, settings, audio, scorer
        self.key = settings_fingerprint(RECIPE_VERSION, dataclasses.asdict(settings.measure), audio.recipe)
        self.journal = Journal(out)
        known = {source.name for source in sources}
        self.records: dict[str, dict[str, dict[str, Any]]] = collections.defaultdict(dict)
        for record in self.journal.records.values():
            if record["key"] == self.key and record["source"] in known:
                self.records[record["source"]][record["name"]] = record
        self.published, self.pause = time.monotonic(), PUBLISH_SECONDS

    def run(self, workers: int, limit: int | None, progress: bool) -> dict[str, Any]:
        chosen = self.sources[:limit]
        complete = False
        try:
            with progress_bar(total=sum(s.size for s in chosen), unit="B", unit_scale=True, desc="corpus", disable=not progress) as bar:
                for piece, record in self._results(self._todo(chosen, bar), workers):
                    self._keep(record)
                    bar.update(piece.source.size // piece.count)
                    bar.set_postfix_str(f"last {record['name']}: {record.get('dropped', 'measured')}", refresh=False)
                    self._publish_now_and_then()
            complete = len(chosen) == len(self.sources)
        finally:
            report = self._publish(complete)
        if report["speakers"] < 2:
            left = f"clips of {report['speakers']} speaker{'s' if report['speakers'] != 1 else ''} are left"
            raise InputError(
                f"{left} in {self.out} after filtering and two are needed: loosen the filter that drops most, or add videos.\n"
                f"{histogram(report)}"
            )
        return report

    def _todo(self, sources: list[SourceVideo], bar: tqdm) -> Iterator[Piece]:
        """The pieces that have no valid record; forgets records of an earlier version of a video."""
        for source in sources:
            sha256 = file_sha256(source.path)
            records = self.records[source.name]
            for name in [name for name, record in records.items() if not self._valid(record, sha256)]:
                del records[name]
            counts = {record["piece"][1] for record in records.values()}
            if len(records) in counts:
                for record in records.values():
                    self._score(record)
                if not bar.disable:
                    bar.initial += source.size  # what was there already says nothing about how long the rest takes
                bar.update(source.size)
                continue
            for piece in pieces_of(source, sha256, self.settings.measure.piece_seconds):
                if piece.name in records:
                    self._score(records[piece.name])
                    bar.update(source.size // piece.count)
                else:
                    yield piece

    def _valid(self, record: dict[str, Any], sha256: str) -> bool:
        if record["sha256"] != sha256:
            return False
        if "dropped" in record:
            return True
        try:
            return file_sha256(clip_path(self.out, record["name"])) == record["file_sha256"]
        except OSError:
            return False

    def _results(self, pieces: Iterator[Piece], workers: int) -> Iterator[tuple[Piece, dict[str, Any]]]:
        """Works the pieces off, here or in processes, holding no more than two per process at a time."""
        arguments = (self.out, self.settings.measure, self.audio, self.key)
        if workers == 1:
            yield from ((piece, work(piece, *arguments)) for piece in pieces)
            return
        # Threads of MediaPipe and of the caller's libraries don't survive a fork.
        context = multiprocessing.get_context("spawn")
        # Compiles librosa's numba functions and stores them once: workers that did so at the same moment could crash each other.
        mel_f0(np.zeros(SAMPLE_RATE, np.float32))
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
            waiting: dict[concurrent.futures.Future, Piece] = {}
            for piece in pieces:
                waiting[pool.submit(work, piece, *arguments)] = piece
                if len(waiting) >= 2 * workers:
                    yield from self._finished(waiting)
            while waiting:
                yield from self._finished(waiting)

    @staticmethod
    def _finished(waiting: dict[concurrent.futures.Future, Piece]) -> Iterator[tuple[Piece, dict[str, Any]]]:
        done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            yield waiting.pop(future), future.result()

    def _keep(self, record: dict[str, Any]) -> None:
        self.records[record["source"]][record["name"]] = record
        if not self._score(record):
            self.journal.add(record)

    def _score(self, record: dict[str, Any]) -> bool:
        """Asks the scorer about a measured clip it has not judged yet; says whether the record was written."""
        if self.scorer is None or "dropped" in record or (record.get("sync") or {}).get("scorer") == self.scorer.name:
            return False
        score = self.scorer.score(read_clip(clip_path(self.out, record["name"])))
        record["sync"] = {"scorer": self.scorer.name, "score": score}
        self.journal.add(record)
        return True

    def _publish_now_and_then(self) -> None:
        if time.monotonic() - self.published >= self.pause:
            self._publish(complete=False)

    def _publish(self, complete: bool) -> dict[str, Any]:
        start = time.monotonic()
        records = {source: sorted(found.values(), key=lambda record: record["piece"][0]) for source, found in self.records.items() if found}
        report = publish(self.out, self.sources, records, self.settings, self.audio, self.scorer.name if self.scorer else None, complete)
        self.published = time.monotonic()
        self.pause = max(PUBLISH_SECONDS, PUBLISH_SHARE * (self.published - start))
        return report


def _end_with_parent() -> None:
    """Ends this worker when the main process is gone: one that was killed can't tell its workers, and they would wait for ever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _check_out(out: Path) -> None:
    """Refuses a folder that holds something other than a corpus of this kind."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder for the corpus.")
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
        ours = (meta["format"], meta["format_version"]) == (FORMAT, FORMAT_VERSION)
    except FileNotFoundError:
        ours = (out / FILE).exists()
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise InputError(f"{out} holds something other than a corpus that prepare-corpus made: name an empty or a new folder.")
