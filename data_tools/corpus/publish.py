"""meta.json and report.json of a corpus, and the filters that decide which clips are kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.sound import AudioFeatures
from data_tools.corpus.sources import CorpusSettings, SourceVideo, held_out
from data_tools.dataset.settings import tool_versions
from data_tools.io import write_json
from data_tools.video.read import FPS

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
    write_json(out / "report.json", report)
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
        write_json(out / "meta.json", meta)
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
