"""The settings of a corpus as dataclasses; their values and what they mean stand in configs/corpus.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from data_tools.errors import InputError

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
    """Thresholds on measurements (`data_tools.corpus.filters`)."""

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
