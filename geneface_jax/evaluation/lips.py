"""Lips against speech where no trained person is needed: shut lips, and closures."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_tools.audio.sound import FPS
from data_tools.errors import InputError
from data_tools.records import read_json
from geneface_jax.typing import Float

# -------- Shut lips, and closures: the lips shut for p, b and m

SHUT = 0.03
"""Openings (inner-lip gap over mouth width) below this count as shut: tracked lips that touch have a gap of 0.005 to 0.02."""

CLOSING = ("p", "b", "m")
"""Consonants that are made with both lips."""

AROUND = 1
"""Frames before and after a phone in which its closure still counts: one frame is the error of word times and of the tracking."""


class Phone(NamedTuple):
    """A phone and when it is spoken, in seconds."""

    start: float
    end: float
    name: str


class Closure(NamedTuple):
    """How often the lips shut for p, b and m.

    Attributes:
      share: of the phones during which an opening below the threshold is seen; nan without such phones.
      phones: their number.
    """

    share: float
    phones: int


def shut_share(opening: Float[np.ndarray, " T"], below: float = SHUT) -> float:
    """Share of the frames in which the lips are shut."""
    return float((np.asarray(opening) < below).mean()) if len(opening) else float("nan")


def closure(opening: Float[np.ndarray, " T"], phones: Sequence[Phone], below: float = SHUT) -> Closure:
    """Share of p, b and m with shut lips.

    Args:
      opening: of the mouth at 25 frames a second (`mouth_opening`).
      phones: of the recording, from its first frame; those that lie outside of it are left out.
      below: openings below this count as shut.
    """
    shut = []
    for phone in phones:
        first, end = int(np.floor(phone.start * FPS)) - AROUND, int(np.ceil(phone.end * FPS)) + AROUND
        if phone.name in CLOSING and 0 <= phone.start and end <= len(opening) + AROUND:
            shut.append(float(np.min(opening[max(first, 0) : end])) < below)
    return Closure(float(np.mean(shut)) if shut else float("nan"), len(shut))


# -------- Where phones are known: the avatar exactly, GRID's sentences by the times of their words

GRID_TICKS = 25_000.0
"""Units of an .align file in a second."""

BURST = 0.10
"""Seconds after a word's start within which its first p or b is released, and before a word's end from which its last m is closed."""

LEAD = 0.06
"""Seconds by which the lips may close before a word starts by its sound: a stop is silent until it is released."""

FIRST = {"bin": "b", "place": "p", "please": "p", "blue": "b", "by": "b", "b": "b", "p": "p"}
"""Words of GRID that begin with a closure; all other words of its 51 have none, save the letter m."""

LAST = {"m": "m"}
"""Words of GRID that end with one."""


def phones_beside(video: Path) -> list[Phone] | None:
    """Phones of a clip from the files beside it; None if there are none.

    A folder that `geneface avatar render` made holds `phonemes.json`, exact. Beside a GRID clip NAME.mpg there may be NAME.align, whose
    words give the p, b and m at their ends.

    Raises:
      InputError: the file is damaged.
    """
    exact, words = video.parent / "phonemes.json", video.with_suffix(".align")
    if words.is_file():
        return closing_phones(read_words(words))
    return read_phonemes(exact) if exact.is_file() else None


def read_phonemes(path: Path) -> list[Phone]:
    """The phones of `phonemes.json`. Raises InputError if it is not a list of [start, end, name]."""
    rows = read_json(path)
    try:
        return [Phone(float(start), float(end), _plain(name)) for start, end, name in rows]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is not a list of [start, end, phone]: render the clip again.") from error


def read_words(path: Path) -> list[Phone]:
    """The words of a GRID .align file with their times in seconds. Raises InputError if a line is not "start end word"."""
    words = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\s*(\d+)\s+(\d+)\s+(\S+)\s*", line)
        if match is None and line.strip():
            raise InputError(f'{path} has the line {line[:40]!r}, not "start end word": copy the file again.')
        if match is not None:
            words.append(Phone(int(match[1]) / GRID_TICKS, int(match[2]) / GRID_TICKS, match[3].lower()))
    return words


def closing_phones(words: Sequence[Phone]) -> list[Phone]:
    """The p, b and m at the ends of GRID's words, with the time in which the lips may be expected to shut."""
    found = []
    for start, end, word in words:
        if word in FIRST:
            found.append(Phone(max(start - LEAD, 0.0), min(start + BURST, end), FIRST[word]))
        if word in LAST:
            found.append(Phone(max(end - BURST, start), end, LAST[word]))
    return found


def _plain(ipa: Any) -> str:
    """A phone without the marks of length, stress and aspiration."""
    if not isinstance(ipa, str):
        raise ValueError("a phone is a string")
    return re.sub(r"[ːˈˌʰ̩̃]", "", ipa)
