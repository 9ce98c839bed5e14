"""The line and bar that say how far something is."""

from __future__ import annotations

import html

from geneface_jax.studio.performance import Progress
from geneface_jax.studio.texts import text


def idle(language: str) -> str:
    """Nothing is running."""
    return _line(text("status.idle", language))


def moving(progress: Progress, language: str) -> str:
    """A render that waits, opens or draws."""
    if progress.ahead:
        return _line(text("status.waiting", language, ahead=progress.ahead))
    if not progress.total:
        return _line(text("status.opening", language))
    left = duration(progress.seconds_left or 0.0)
    words = text("status.drawing", language, done=progress.done, total=progress.total, left=left)
    share = 100.0 * progress.done / progress.total
    return _line(words) + f'<div class="studio-bar"><div style="width:{share:.1f}%"></div></div>'


def sentence(*sentences: str) -> str:
    """Sentences that are there already, one a line."""
    return "".join(_line(words) for words in sentences)


def done(seconds: float, language: str) -> str:
    """It is finished."""
    return _line(text("status.done", language, seconds=seconds), "studio-done")


def plain(key: str, language: str) -> str:
    """One of the texts."""
    return _line(text(key, language))


def failed(sentence: str, language: str) -> str:
    """The error box; the sentence may hold what a visitor sent, so it is escaped."""
    return f'<div class="studio-error" role="alert">{html.escape(text("error", language, sentence=sentence))}</div>'


def duration(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _line(words: str, kind: str = "") -> str:
    return f'<div class="studio-status {kind}" role="status">{html.escape(words)}</div>'
