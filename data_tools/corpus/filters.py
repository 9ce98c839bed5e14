"""Which clips stay: pure judgements of measurements, so that a threshold can be changed without measuring again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_tools.corpus.settings import CorpusSettings

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
"""Why a clip is dropped, in the order in which it is judged; the first four mean that it could not even be measured."""


def judge(measured: Mapping[str, Any], settings: CorpusSettings, sync_score: float | None = None) -> str | None:
    """The first filter that a clip fails.

    Args:
      measured: the fields of `measure.Measurements`.
      settings: thresholds.
      sync_score: SyncNet's score, None where it was not asked or the clip was too short for it.

    Returns:
      A key of `REASONS`, or None when the clip stays.
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
