"""Selection of corpus clips: settings, source videos and speakers, filters, the split by speaker, meta.json and report.json."""

import dataclasses
import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.sound import AudioFeatures
from data_tools.dataset.settings import tool_versions
from data_tools.errors import InputError
from data_tools.ffmpeg import VIDEO_SUFFIXES
from data_tools.io import write_json
from data_tools.video import FPS

logger = logging.getLogger(__name__)

# -------- Settings of a corpus, its source videos and their speakers, and the train/validation split by speaker

# -------- Settings; values and meaning are documented in configs/corpus.py

SPEAKER_RULES = ("folder", "top", "file")


@dataclasses.dataclass(frozen=True)
class MeasureSettings:
    """Settings that affect a clip's arrays and measurements."""

    piece_seconds: float
    offset_reach: int
    offset_min_score: float
    offset_min_margin: float
    offset_tolerance: float
    offset_max_corrected: float


@dataclasses.dataclass(frozen=True)
class FilterSettings:
    """Thresholds on measurements (`drop_reason`)."""

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
    def from_mapping(cls, config: Mapping[str, Any]) -> "CorpusSettings":
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
    found, visited, left_out = [], set(), Counter[str]()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                found.append(path)
            else:
                left_out[path.suffix.lower() or "no suffix"] += 1
    if found and left_out:
        # Transcripts and such: there may be one for every video.
        kinds = ", ".join(f"{count} ({suffix})" for suffix, count in left_out.most_common(10))
        logger.info("files left out because their names do not end like those of videos: %s", kinds)
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


# -------- Meta.json and report.json of a corpus, and the filters that decide which clips are kept

# -------- Filters: pure functions of measurements, so that a threshold can be changed without measuring again

REASONS = {
    "unreadable": "the video can't be decoded",
    "failed": "the measurement failed",
    "no_sound": "no sound, or silence throughout",
    "no_face": "no face found",
    "too_short": "shorter than filters.min_seconds",
    "small_face": "face smaller than filters.min_face_pixels",
    "face_lost": "face missing for longer than filters.max_gap_seconds",
    "several_faces": "another face in more than filters.max_rival_share of the clip",
    "scene_cut": "a cut (filters.max_cut_levels, filters.max_jump)",
    "blur": "face less sharp than filters.min_sharpness",
    "silence": "less voice than filters.min_voiced_share",
    "offset": "sound further from the picture than measure.offset_max_corrected",
    "sync_score": "SyncNet's score below filters.min_sync_score",
}
"""Reasons for dropping a clip, in the order of the checks; the first four mean that it could not be measured."""


def first_failed_filter(measured: Mapping[str, Any], settings: CorpusSettings, sync_score: float | None = None) -> str | None:
    """The first filter that a clip fails, a key of `REASONS`, or None if the clip is kept.

    Args:
      measured: the fields of `measure.Measurements`.
      settings: thresholds.
      sync_score: SyncNet's score; None without a scorer, or if the clip was too short for it.
    """
    filters, measure = settings.filters, settings.measure
    fails = {
        "too_short": measured["seconds"] < filters.min_seconds,
        "small_face": measured["face_pixels"] < filters.min_face_pixels,
        "face_lost": measured["gap_seconds"] > filters.max_gap_seconds + 1e-6,
        "several_faces": measured["rival_share"] > filters.max_rival_share,
        "scene_cut": measured["cut_levels"] > filters.max_cut_levels or measured["jump"] > filters.max_jump,
        "blur": measured["sharpness"] < filters.min_sharpness,
        "silence": measured["voiced_share"] < filters.min_voiced_share,
        "offset": measured["offset_confident"] and abs(measured["offset"]) > measure.offset_max_corrected,
        "sync_score": sync_score is not None and sync_score < filters.min_sync_score,
    }
    return next((reason for reason, failed in fails.items() if failed), None)


# -------- Meta.json and report.json

FORMAT, FORMAT_VERSION = "geneface_jax.corpus", 2
EXAMPLES = 20
"""Dropped clips listed in the report, per reason."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

FilteredClip = tuple[SourceVideo, Mapping[str, Any], str | None]
"""A source, one of its records, and the reason for dropping it."""


def drop_reason(record: Mapping[str, Any], settings: CorpusSettings, scorer: str | None) -> str | None:
    """The reason for dropping the clip of a record, or None; only the sync score of the scorer named `scorer` counts."""
    if "dropped" in record:
        return record["dropped"]
    sync = record.get("sync") or {}
    return first_failed_filter(record["measured"], settings, sync.get("score") if scorer and sync.get("scorer") == scorer else None)


def publish(
    out: Path,
    sources: Sequence[SourceVideo],
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: CorpusSettings,
    audio: AudioFeatures,
    scorer: str | None,
    complete: bool,
) -> dict[str, Any]:
    """Filters every record and writes `report.json` and (only if two speakers have clips) `meta.json`, each atomically.

    Args:
      out: the corpus folder.
      sources: all videos, in order.
      records: source name -> its records.
      settings: thresholds and split.
      audio: the audio features the clips hold.
      scorer: name of the SyncNet whose scores count.
      complete: whether every video has been processed.

    Returns:
      The report.
    """
    kept: list[FilteredClip] = []
    dropped: list[FilteredClip] = []
    for source in sources:
        for record in records.get(source.name, ()):
            reason = drop_reason(record, settings, scorer)
            (dropped if reason else kept).append((source, record, reason))
    speakers = list(dict.fromkeys(source.speaker for source, _, _ in kept))
    val = held_out((source.speaker for source in sources), speakers, settings.split) if len(speakers) > 1 else set()
    report = _report(kept, dropped, speakers, val, complete)
    write_json(out / "report.json", report, checksum=True)
    if len(speakers) > 1:
        clips = [
            {
                "name": record["name"],
                "speaker": source.speaker,
                "n_frames": record["n_frames"],
                "split": "val" if source.speaker in val else "train",
            }
            for source, record, _ in kept
        ]
        meta = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "face_model": "mediapipe",
            "audio_model": audio.name,
            **({"audio_weights": audio.weights} if audio.weights else {}),
            "complete": complete,
            "tools": tool_versions(),
            "clips": clips,
        }
        write_json(out / "meta.json", meta, checksum=True)
    return report


def _report(kept: list[FilteredClip], dropped: list[FilteredClip], speakers: list[str], val: set[str], complete: bool) -> dict[str, Any]:
    counts = Counter(reason for _, _, reason in dropped)
    measured = [record["measured"] for _, record, _ in kept + dropped if "measured" in record]
    fields = [name for name, value in measured[0].items() if not isinstance(value, bool)] if measured else []
    return {
        "complete": complete,
        "clips": len(kept),
        "seconds": round(sum(record["n_frames"] for _, record, _ in kept) / FPS, 2),
        "speakers": len(speakers),
        "val_speakers": sorted(val & set(speakers)),
        "offsets_corrected": sum(record["measured"]["corrected"] != 0 for _, record, _ in kept),
        "dropped": {reason: {"clips": counts[reason], "meaning": REASONS[reason]} for reason in REASONS if counts[reason]},
        "examples": {
            reason: [
                {"clip": record["name"], **({"sentence": record["sentence"]} if "sentence" in record else {"measured": record["measured"]})}
                for _, record, found in dropped
                if found == reason
            ][:EXAMPLES]
            for reason in REASONS
            if counts[reason]
        },
        "percentiles": {
            name: dict(zip(map(str, PERCENTILES), np.percentile([m[name] for m in measured], PERCENTILES).round(4).tolist(), strict=True))
            for name in fields
        },
    }


def histogram(report: Mapping[str, Any], width: int = 40) -> str:
    """The report as text: totals of the kept clips, and a bar per reason for the dropped ones."""
    n_dropped = sum(entry["clips"] for entry in report["dropped"].values())
    lines = [
        f"{report['clips']} clips of {report['speakers']} speakers kept, {report['seconds'] / 3600.0:.2f} h; {n_dropped} dropped"
        f"; {report['offsets_corrected']} with corrected sound offset"
    ]
    most = max((entry["clips"] for entry in report["dropped"].values()), default=1)
    for reason, entry in report["dropped"].items():
        bar = "#" * max(round(width * entry["clips"] / most), 1)
        lines.append(f"  {reason:<14}{entry['clips']:>7}  {bar}  {entry['meaning']}")
    return "\n".join(lines)
