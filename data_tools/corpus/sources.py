"""Settings of a corpus, its source videos and their speakers, and the train/validation split by speaker."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_tools.errors import InputError

# -------- Settings; values and meaning are documented in configs/corpus.py

SPEAKER_RULES = ("folder", "top", "file")


@dataclasses.dataclass(frozen=True)
class MeasureSettings:
    """Settings that affect a clip's arrays and measurements."""

    piece_seconds: float
    offset_reach: int
    offset_min_score: float
    offset_min_margin: float
    offset_tolerance: int
    offset_max_corrected: int


@dataclasses.dataclass(frozen=True)
class FilterSettings:
    """Thresholds on measurements (`data_tools.corpus.publish`)."""

    min_seconds: float
    min_face_pixels: float
    max_gap_seconds: float
    max_rival_share: float
    max_cut_levels: float
    max_jump: float
    min_sharpness: float
    min_voiced_share: float
    min_sync_score: float


@dataclasses.dataclass(frozen=True)
class SplitSettings:
    """Choice of the held-out speakers."""

    val_share: float
    seed: int


@dataclasses.dataclass(frozen=True)
class CorpusSettings:
    """All settings of a corpus."""

    speaker: str
    measure: MeasureSettings
    filters: FilterSettings
    split: SplitSettings

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> CorpusSettings:
        """Reads the config of configs/corpus.py, or any mapping with the same keys; raises as `check`."""
        groups = {"measure": MeasureSettings, "filters": FilterSettings, "split": SplitSettings}
        settings = cls(config["speaker"], **{name: kind(**dict(config[name])) for name, kind in groups.items()})
        settings.check()
        return settings

    def check(self) -> None:
        """Raises InputError if a value is out of its range."""
        measure, split = self.measure, self.split
        wrong = [
            (self.speaker not in SPEAKER_RULES, f"speaker is {self.speaker!r}", f"one of {', '.join(SPEAKER_RULES)}"),
            (not 2.0 <= measure.piece_seconds <= 600.0, f"measure.piece_seconds is {measure.piece_seconds:g}", "2 to 600"),
            (not 0 <= measure.offset_reach <= 50, f"measure.offset_reach is {measure.offset_reach}", "0 to 50 frames"),
            (not 0.0 < split.val_share < 1.0, f"split.val_share is {split.val_share:g}", "a share between 0 and 1"),
            (not self.filters.min_seconds >= 0.4, f"filters.min_seconds is {self.filters.min_seconds:g}", "0.4 or more"),
        ]
        for bad, what, allowed in wrong:
            if bad:
                raise InputError(f"config.{what}: use {allowed}.")


# -------- Source videos and their speakers

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"})

LRS3_PARTS = frozenset({"pretrain", "trainval", "test", "main"})
"""Top folders of LRS2 and LRS3: parts of the data set, not speakers."""


@dataclasses.dataclass(frozen=True)
class SourceVideo:
    """A video: `name` is its path below the folder without suffix (unique), `path` the file, `size` its bytes."""

    name: str
    path: Path
    speaker: str
    size: int


def find_sources(folder: Path, rule: str) -> list[SourceVideo]:
    """All videos below a folder, ordered so that every prefix of the list covers as many speakers as possible.

    Args:
      folder: an LRS3 tree (PART/SPEAKER/CLIP.mp4) or any other; hidden files and folders are skipped, links are followed once.
      rule: how a file's speaker is named. "folder": by its folder, without LRS3's part; "top": by the topmost folder; "file": every file
        is another speaker. A file directly in `folder` is always a speaker of its own.

    Raises:
      InputError: the folder does not exist or holds no video.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder that holds the videos.")
    paths = sorted(_videos(folder), key=lambda path: path.as_posix())
    if not paths:
        raise InputError(
            f"There is no video in {folder} (searched for {', '.join(sorted(VIDEO_SUFFIXES))}): give the folder that holds the videos."
        )
    stems = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    taken: set[str] = set()
    sources = []
    for path, stem in zip(paths, stems, strict=True):
        # a.mp4 and a.mov would be written to the same clip file: the second keeps its suffix in its name.
        name = stem if stem not in taken else path.relative_to(folder).as_posix()
        taken.add(name)
        sources.append(SourceVideo(name, path, speaker_of(path.relative_to(folder), rule), path.stat().st_size))
    return _spread(sources)


def speaker_of(relative: Path, rule: str) -> str:
    """Speaker of the video at a path relative to the corpus folder; `rule` as in `find_sources`."""
    folders = relative.parent.parts
    if len(folders) > 1 and folders[0] in LRS3_PARTS:
        folders = folders[1:]
    if rule == "file" or not folders:
        return relative.with_suffix("").as_posix()
    return folders[0] if rule == "top" else "/".join(folders)


def rank(text: str, seed: int = 0) -> int:
    """Sort key for a pseudorandom order of names that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed} {text}".encode()).digest()[:8], "big")


def _videos(folder: Path) -> list[Path]:
    found, visited = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                found.append(path)
    return found


def _spread(sources: list[SourceVideo]) -> list[SourceVideo]:
    """Round robin over the speakers, so that an unfinished corpus is already a fair sample."""
    count: dict[str, int] = defaultdict(int)
    keys = {}
    for source in sorted(sources, key=lambda source: rank(source.name)):
        keys[source.name] = (count[source.speaker], rank(source.speaker))
        count[source.speaker] += 1
    return sorted(sources, key=lambda source: keys[source.name])


# -------- Train/validation split: all clips of a speaker are in one split


def held_out(speakers: Iterable[str], kept: Iterable[str], settings: SplitSettings) -> set[str]:
    """The speakers of "val", from all `speakers` of the folder and those with clips in the corpus (`kept`, at least two).

    The speakers are ordered by a hash of name and seed, and the first `val_share` of them is held out, so the choice does not change while
    the corpus grows. Only if that leaves a split without a speaker who has clips, the nearest one in the order changes its split.
    """
    order = sorted(set(speakers), key=lambda name: rank(name, settings.seed))
    chosen = set(order[: max(round(settings.val_share * len(order)), 1)])
    present = [name for name in order if name in set(kept)]
    if not chosen & set(present):
        chosen.add(present[0])
    if chosen >= set(present):
        chosen.discard(present[-1])
    return chosen
