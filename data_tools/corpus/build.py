"""From a folder of videos to a corpus: resumable, one clip in memory at a time, readable while it grows.

The state lies in three places, written in this order: a clip's file (renamed when whole), its line in the journal, and now and then
meta.json, which names only clips that have both. So a run may be killed anywhere; the next one takes a video's records as they stand when
the video's sha256, the settings they were measured with, and the sha256 of their files are still the same.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import json
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
from data_tools.corpus.clip_file import clip_path, read_clip
from data_tools.corpus.journal import FILE, Journal
from data_tools.corpus.publish import FORMAT, FORMAT_VERSION, histogram, publish
from data_tools.corpus.settings import CorpusSettings
from data_tools.corpus.sources import Source, find_sources
from data_tools.corpus.work import Piece, pieces_of, work
from data_tools.dataset.workspace import file_sha256, fingerprint, full_disk_told
from data_tools.errors import InputError
from data_tools.face.track import detect
from data_tools.progress import bar as progress_bar
from data_tools.video.read import FPS

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
    with full_disk_told(out):
        out.mkdir(parents=True, exist_ok=True)
        return _Build(sources, out, settings, audio, scorer).run(max(workers, 1), limit, progress)


class _Build:
    """One run over all sources."""

    def __init__(self, sources: list[Source], out: Path, settings: CorpusSettings, audio: AudioFeatures, scorer: Scorer | None) -> None:
        self.sources, self.out, self.settings, self.audio, self.scorer = sources, out, settings, audio, scorer
        self.key = fingerprint(RECIPE_VERSION, dataclasses.asdict(settings.measure), audio.recipe)
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

    def _todo(self, sources: list[Source], bar: tqdm) -> Iterator[Piece]:
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
