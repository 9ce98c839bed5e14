"""Bars of long work that suit a log file as well as a terminal."""

from __future__ import annotations

import functools
import sys

from tqdm import tqdm

TERMINAL_SECONDS, LOG_SECONDS = 0.1, 30.0
"""From one drawing of the bar to the next. A file keeps every drawing, so it gets few."""


def bar(*args, **options) -> tqdm:
    """`tqdm` on stderr, which draws rarely where that is no terminal; arguments as `tqdm`'s."""
    return tqdm(*args, **{"mininterval": TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS, **options})


def frames_bar(show: bool = True) -> functools.partial:
    """A maker of bars that count frames; none is drawn unless `show`."""
    return functools.partial(bar, unit="frame", disable=not show)
