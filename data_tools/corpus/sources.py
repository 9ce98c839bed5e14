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

# ----------------------------------------------------------------------------------------------------
# The settings of a corpus as dataclasses; their values and what they mean stand in configs/corpus.py.

SPEAKER_RULES = ("folder", "top", "file")


@dataclasses.dataclass(frozen=True)
class MeasureSettings:
    """What a clip's arrays and measurements depend on."""

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
    """Which speakers are held out."""

    val_share: float
    seed: int


@dataclasses.dataclass(frozen=True)
class CorpusSettings:
    """Everything that decides what a corpus holds."""

    speaker: str
    measure: MeasureSettings
    filters: FilterSettings
    split: SplitSettings

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> CorpusSettings:
        """Reads `configs/corpus.py`'s config (or any mapping of the same keys).

        Raises:
          InputError: a value is out of its range.
        """
        groups = {"measure": MeasureSettings, "filters": FilterSettings, "split": SplitSettings}
        settings = cls(config["speaker"], **{name: kind(**dict(config[name])) for name, kind in groups.items()})
        settings.check()
        return settings

    def check(self) -> None:
        """Raises InputError when a value is out of its range."""
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
                raise InputError(f"config.{what}: write {allowed}.")


# ----------------------------------------------------------------------------------------------------
# Finding the videos of a corpus, and who speaks in each.

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"})

LRS3_PARTS = frozenset({"pretrain", "trainval", "test", "main"})
"""Top folders of LRS2 and LRS3: they tell apart how clips were cut, not who speaks."""


@dataclasses.dataclass(frozen=True)
class SourceVideo:
    """A video: `name` its path below the folder without suffix (unique), `path` the file, `speaker` who speaks, `size` bytes."""

    name: str
    path: Path
    speaker: str
    size: int


def find_sources(folder: Path, rule: str) -> list[SourceVideo]:
    """All videos below a folder, in an order in which every beginning holds many speakers.

    Args:
      folder: an LRS3 tree (PART/SPEAKER/CLIP.mp4) or any other; hidden files and folders are left out, links are followed once.
      rule: who speaks. "folder": the folder the file lies in, without LRS3's part; "top": the topmost folder; "file": every file is another
        speaker, which is also what a file that lies in `folder` itself counts as.

    Raises:
      InputError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder that holds the videos.")
    paths = sorted(_videos(folder), key=lambda path: path.as_posix())
    if not paths:
        raise InputError(
            f"there is no video in {folder} (looked for {', '.join(sorted(VIDEO_SUFFIXES))}): give the folder that holds them."
        )
    stems = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    taken: set[str] = set()
    sources = []
    for path, stem in zip(paths, stems, strict=True):
        # a.mp4 and a.mov would be written to one file: the second keeps its suffix in its name.
        name = stem if stem not in taken else path.relative_to(folder).as_posix()
        taken.add(name)
        sources.append(SourceVideo(name, path, speaker_of(path.relative_to(folder), rule), path.stat().st_size))
    return _spread(sources)


def speaker_of(relative: Path, rule: str) -> str:
    """Who speaks in the video at a path relative to the corpus folder; see `find_sources`."""
    folders = relative.parent.parts
    if len(folders) > 1 and folders[0] in LRS3_PARTS:
        folders = folders[1:]
    if rule == "file" or not folders:
        return relative.with_suffix("").as_posix()
    return folders[0] if rule == "top" else "/".join(folders)


def rank(text: str, seed: int = 0) -> int:
    """A number that orders names as if by chance, the same on every machine."""
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
    """Every speaker's first clip, then every speaker's second, ...: a corpus that is not finished is a fair sample already."""
    turn: dict[str, int] = defaultdict(int)
    keys = {}
    for source in sorted(sources, key=lambda source: rank(source.name)):
        keys[source.name] = (turn[source.speaker], rank(source.speaker))
        turn[source.speaker] += 1
    return sorted(sources, key=lambda source: keys[source.name])


# ----------------------------------------------------------------------------------------------------
# Held-out speakers: all clips of a speaker are on one side.


def held_out(speakers: Iterable[str], kept: Iterable[str], settings: SplitSettings) -> set[str]:
    """The speakers of "val".

    Speakers are put in an order that depends on their names and the seed alone, and the first share of it is held out: the same ones
    however far the corpus has got. Only where that leaves one side without a speaker who has clips, the nearest in the order changes sides.

    Args:
      speakers: all speakers of the folder.
      kept: those who have a clip in the corpus, at least two.
      settings: share and seed.
    """
    order = sorted(set(speakers), key=lambda name: rank(name, settings.seed))
    chosen = set(order[: max(round(settings.val_share * len(order)), 1)])
    present = [name for name in order if name in set(kept)]
    if not chosen & set(present):
        chosen.add(present[0])
    if chosen >= set(present):
        chosen.discard(present[-1])
    return chosen
