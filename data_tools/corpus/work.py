"""One piece of a video -> its file and its record. Runs in the main process or in a worker; touches nothing but the piece's own file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.features import AudioFeatures
from data_tools.corpus.clip_file import clip_path, write_clip
from data_tools.corpus.measure import Span, UnusableError, measure_clip
from data_tools.corpus.settings import MeasureSettings
from data_tools.corpus.sources import Source
from data_tools.dataset.workspace import file_sha256
from data_tools.errors import InputError
from data_tools.video.probe import VideoInfo, probe
from data_tools.video.read import FPS


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of a source: number `index` of `count`, seconds `span` (None: all of it). `info` is None where it can't be read."""

    source: Source
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


def pieces_of(source: Source, sha256: str, piece_seconds: float) -> list[Piece]:
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
