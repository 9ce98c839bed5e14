"""Held-out speakers: all clips of a speaker are on one side."""

from __future__ import annotations

from collections.abc import Iterable

from data_tools.corpus.settings import SplitSettings
from data_tools.corpus.sources import rank


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
