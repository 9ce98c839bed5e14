"""Builds a corpus from a folder of videos: resumable, one clip in memory at a time, readable while it grows."""

import collections
import concurrent.futures
import dataclasses
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_tools.audio.offset import OpeningPredictor
from data_tools.audio.sound import MEL_F0, SAMPLE_RATE, AudioFeatures, mel_f0
from data_tools.command_line import bar as progress_bar
from data_tools.corpus import selection
from data_tools.corpus.measure import Span, UnusableError, measure_clip
from data_tools.errors import InputError
from data_tools.face.track import detect
from data_tools.ffmpeg import VideoInfo, probe
from data_tools.io import atomic_path, disk_errors_as_input_errors, file_sha256, hold, read_npz, require_output, settings_fingerprint
from data_tools.jobs import exit_with_parent
from data_tools.locks import LOCK_FILE
from data_tools.video import FPS

# -------- Clip files: `clips/NAME.npz` (docs/file-formats.md)

FOLDER = "clips"


def clip_path(corpus: Path, name: str) -> Path:
    """Path of a clip's file."""
    return corpus / FOLDER / f"{name}.npz"


def write_clip(corpus: Path, name: str, arrays: dict[str, np.ndarray]) -> Path:
    """Writes a clip atomically.

    Args:
      corpus: the corpus folder.
      name: the clip's name, which may contain folders.
      arrays: audio_features [2T, C], f0 [2T], motion [T, 204], float; stored as float16, uncompressed (float16 noise hardly compresses, and
        training reads them all the time), with motion_mean and motion_mean_square [204] float32 of the stored values.
    """
    path = clip_path(corpus, name)
    stored = {key: np.asarray(arrays[key], np.float16) for key in ("audio_features", "f0", "motion")}
    motion = stored["motion"].astype(np.float64)
    moments = {"motion_mean": motion.mean(0).astype(np.float32), "motion_mean_square": np.square(motion).mean(0).astype(np.float32)}
    # The temporary name is fixed, so that the leftover of a killed run is overwritten when the clip is made again.
    with atomic_path(path, ".npz", per_process=False) as temporary:
        np.savez(temporary, **stored, **moments)
    return path


def read_clip(path: Path) -> dict[str, np.ndarray]:
    """audio_features, f0 and motion of a clip's file as float32."""
    clip = read_npz(path, "delete it and run the same command again", ("audio_features", "f0", "motion"))
    return {name: array.astype(np.float32) for name, array in clip.items()}


# -------- Journal: one JSON line per clip

FILE = "journal.jsonl"


class Journal:
    """The records of a corpus folder, by clip name; `process_piece` describes the fields of a record.

    A record is appended once the clip's file is complete. Later lines about a clip replace earlier ones. A run killed in the middle of a
    line loses that line only.
    """

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
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        if lines and not lines[-1].endswith(b"\n"):
            # A new record must not be appended to a torn line.
            with open(self.path, "ab") as stream:
                stream.write(b"\n")

    def add(self, record: dict[str, Any]) -> None:
        """Adds a record, first on disk (fsync), then in memory."""
        line = json.dumps(record, ensure_ascii=False).encode("utf-8") + b"\n"
        with open(self.path, "ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.records[record["name"]] = record


# -------- Processing of one piece of a video, in the main process or in a worker


@dataclasses.dataclass(frozen=True)
class Piece:
    """Part `index` of `count` of a source video, seconds `span` (None: all of it). `info` is None if the video can't be read."""

    source: selection.SourceVideo
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


def pieces_of(source: selection.SourceVideo, sha256: str, piece_seconds: float) -> list[Piece]:
    """Splits a source into equal pieces of at most `piece_seconds`, on frame borders; an unreadable one is one piece without `info`."""
    try:
        info = probe(source.path)
    except InputError as error:
        return [Piece(source, sha256, 0, 1, None, None, str(error))]
    count = max(math.ceil(info.seconds / piece_seconds - 1e-6), 1)
    if count == 1:
        return [Piece(source, sha256, 0, 1, None, info)]
    borders = [round(info.seconds * FPS * i / count) / FPS for i in range(count + 1)]
    return [Piece(source, sha256, i, count, (borders[i], borders[i + 1]), info) for i in range(count)]


def process_piece(
    piece: Piece, corpus: Path, settings: selection.MeasureSettings, audio: AudioFeatures, predictor: OpeningPredictor | None, key: str
) -> dict[str, Any]:
    """Measures a piece and writes its clip file.

    Returns:
      The record of the journal: `name`, `source`, `sha256` (of the video), `piece` [index, count], `key` (of settings and code), then
      either `measured` (fields of `Measurements`), `n_frames` and `file_sha256`, or `dropped` (a key of `publish.REASONS`) and `sentence`.
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
        arrays, measured = measure_clip(piece.source.path, piece.info, piece.span, settings, audio, predictor)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise UnusableError("failed", "The landmarks or audio features are not finite.")
    except UnusableError as error:
        clip_path(corpus, piece.name).unlink(missing_ok=True)
        return {**record, "dropped": error.reason, "sentence": str(error)}
    except (ArithmeticError, ValueError, RuntimeError) as error:
        # One bad clip among a hundred thousand must not abort a run of days; the journal keeps its error message.
        clip_path(corpus, piece.name).unlink(missing_ok=True)
        return {**record, "dropped": "failed", "sentence": f"{type(error).__name__}: {error}"}
    path = write_clip(corpus, piece.name, arrays)
    return {**record, "measured": dataclasses.asdict(measured), "n_frames": len(arrays["motion"]), "file_sha256": file_sha256(path)}


# -------- The build loop and its resume rules
#
# State is written in this order: the clip's file (renamed when complete), its line in the journal, and periodically meta.json, which lists
# only clips that have both. A run may therefore be killed at any time. The next run reuses a record if the sha256 of the video, the
# settings it was measured with, and the sha256 of the clip's file are unchanged.

RECIPE_VERSION = 2
"""Incremented when clips should be measured again although no setting has changed."""

PUBLISH_SECONDS = 30.0
"""Minimum pause between two writes of meta.json."""

PUBLISH_SHARE = 20.0
"""Minimum pause as a multiple of the duration of the last write."""


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A lip-sync scorer.

    Attributes:
      name: stored with each score; a scorer with another name scores the clips again.
      score: arrays of a clip (`read_clip`) -> -1..1, or None if the clip can't be scored.
    """

    name: str
    score: Callable[[dict[str, np.ndarray]], float | None]


def build_corpus(
    videos: str | os.PathLike,
    out: str | os.PathLike,
    settings: selection.CorpusSettings,
    *,
    features: AudioFeatures = MEL_F0,
    predictor: OpeningPredictor | None = None,
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
      features: the audio features; other than mel_f0 they need code of their own (`geneface_jax.inference.audio_features`); hubert also
        one worker.
      predictor: finds and corrects the offset between sound and picture; None leaves both as they are.
      scorer: scores of a trained SyncNet for the filter `sync_score`.
      workers: processes that measure clips; 1 measures in this process.
      limit: use only this many videos (spread over the speakers).
      progress: whether to draw a progress bar.

    Returns:
      The content of report.json.

    Raises:
      InputError: no videos, fewer than two speakers (before or after filtering), `out` holds something else, MediaPipe can't run, or the
        disk is full. Finished measurements are kept for the next run.
    """
    videos, out = Path(videos), Path(out)
    sources = selection.find_sources(videos, settings.speaker)
    if len({source.speaker for source in sources}) == 1:
        raise InputError(
            f"Every video in {videos} belongs to one speaker ({sources[0].speaker}), but one speaker must be held out: add videos of "
            "other people in folders of their own, or pass --config.speaker=file if every file shows another person."
        )
    _check_out(out)
    require_output(out, folder=True)
    if workers > 1 and features.name == "hubert":
        raise InputError(f"{features.name} features are computed in one process: remove --workers.")
    detect(iter(()), FPS)  # fails here if MediaPipe can't start, instead of dropping the first clip
    with disk_errors_as_input_errors(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
    with hold(out, "geneface prepare-corpus"), disk_errors_as_input_errors(out, "--out"):
        return _Build(sources, out, settings, features, predictor, scorer).run(max(workers, 1), limit, progress)


class _Build:
    """One run over all sources."""

    def __init__(
        self,
        sources: list[selection.SourceVideo],
        out: Path,
        settings: selection.CorpusSettings,
        audio: AudioFeatures,
        predictor: OpeningPredictor | None,
        scorer: Scorer | None,
    ) -> None:
        self.sources, self.out, self.settings, self.audio, self.scorer = sources, out, settings, audio, scorer
        self.predictor = predictor
        recipe = predictor.recipe if predictor else None
        self.key = settings_fingerprint(RECIPE_VERSION, dataclasses.asdict(settings.measure), audio.recipe, recipe)
        self.journal = Journal(out)
        names = {source.name for source in sources}
        self.records: dict[str, dict[str, dict[str, Any]]] = collections.defaultdict(dict)
        for record in self.journal.records.values():
            if record["key"] == self.key and record["source"] in names:
                self.records[record["source"]][record["name"]] = record
        self.published, self.pause = time.monotonic(), PUBLISH_SECONDS

    def run(self, workers: int, limit: int | None, progress: bool) -> dict[str, Any]:
        chosen = self.sources[:limit]
        complete = False
        try:
            with progress_bar(total=sum(s.size for s in chosen), unit="B", unit_scale=True, desc="corpus", disable=not progress) as bar:
                for piece, record in self._results(self._pending(chosen, bar), workers):
                    self._add(record)
                    bar.update(piece.source.size // piece.count)
                    bar.set_postfix_str(f"last {record['name']}: {record.get('dropped', 'measured')}", refresh=False)
                    if time.monotonic() - self.published >= self.pause:
                        self._publish(complete=False)
            complete = len(chosen) == len(self.sources)
        finally:
            report = self._publish(complete)
        if report["speakers"] < 2:
            left = f"Only clips of {report['speakers']} speaker{'s' if report['speakers'] != 1 else ''} are left"
            raise InputError(
                f"{left} in {self.out} after filtering, and two are needed: relax the filter that drops most clips, or add videos.\n"
                f"{selection.histogram(report)}"
            )
        return report

    def _pending(self, sources: list[selection.SourceVideo], bar: tqdm) -> Iterator[Piece]:
        """The pieces without a valid record; discards records of an earlier version of a video."""
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
                    bar.initial += source.size  # excludes reused clips from the bar's estimate of the remaining time
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
        """Processes the pieces, in this process or in a pool with at most two submitted pieces per worker."""
        arguments = (self.out, self.settings.measure, self.audio, self.predictor, self.key)
        if workers == 1:
            yield from ((piece, process_piece(piece, *arguments)) for piece in pieces)
            return
        # Threads of MediaPipe and of the caller's libraries don't survive a fork.
        context = multiprocessing.get_context("spawn")
        # Compiles librosa's numba functions into their cache once: workers that compile them at the same time could crash each other.
        mel_f0(np.zeros(SAMPLE_RATE, np.float32))
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=exit_with_parent) as pool:
            pending: dict[concurrent.futures.Future, Piece] = {}
            for piece in pieces:
                pending[pool.submit(process_piece, piece, *arguments)] = piece
                if len(pending) >= 2 * workers:
                    yield from self._finished(pending)
            while pending:
                yield from self._finished(pending)

    @staticmethod
    def _finished(pending: dict[concurrent.futures.Future, Piece]) -> Iterator[tuple[Piece, dict[str, Any]]]:
        done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            yield pending.pop(future), future.result()

    def _add(self, record: dict[str, Any]) -> None:
        self.records[record["source"]][record["name"]] = record
        if not self._score(record):
            self.journal.add(record)

    def _score(self, record: dict[str, Any]) -> bool:
        """Scores a measured clip that has no score of this scorer; returns whether the record was added to the journal."""
        if self.scorer is None or "dropped" in record or (record.get("sync") or {}).get("scorer") == self.scorer.name:
            return False
        score = self.scorer.score(read_clip(clip_path(self.out, record["name"])))
        record["sync"] = {"scorer": self.scorer.name, "score": score}
        self.journal.add(record)
        return True

    def _publish(self, complete: bool) -> dict[str, Any]:
        start = time.monotonic()
        records = {source: sorted(found.values(), key=lambda record: record["piece"][0]) for source, found in self.records.items() if found}
        report = selection.publish(
            self.out, self.sources, records, self.settings, self.audio, self.scorer.name if self.scorer else None, complete
        )
        self.published = time.monotonic()
        self.pause = max(PUBLISH_SECONDS, PUBLISH_SHARE * (self.published - start))
        return report


def _check_out(out: Path) -> None:
    """Raises InputError if the output folder holds something other than a corpus of this format."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder for the corpus.")
    if not out.exists() or not any(entry.name != LOCK_FILE for entry in out.iterdir()):
        return
    try:
        meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
        is_corpus = (meta["format"], meta["format_version"]) == (selection.FORMAT, selection.FORMAT_VERSION)
    except FileNotFoundError:
        is_corpus = (out / FILE).exists()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        is_corpus = False
    if not is_corpus:
        raise InputError(f"{out} holds something other than a corpus made by prepare-corpus: give an empty or a new folder.")
