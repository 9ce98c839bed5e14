"""Blinks injected into predicted motion (GeneFace++): their envelope over time, and what the lids do (`--blink-mode period`)."""

import numpy as np

from data_tools.errors import InputError
from geneface_jax.typing import Float, Float32

BLINK = (0.1, 0.5, 0.7, 1.0, 0.7, 0.5, 0.1)
"""One blink: how far the lids are closed in each of its frames (GeneFace++)."""

BLINK_OFFSET = 75
"""First frame of the first blink if the period is 100; scaled with the period."""

# Each eye: (left corner, right corner, upper lid from left to right, lower lid from left to right).
_EYES = ((36, 39, (37, 38), (41, 40)), (42, 45, (43, 44), (47, 46)))


def blink_envelope(n_frames: int, period: int = 100) -> Float32[np.ndarray, " T"]:
    """0 = open, 1 = closed; a seven-frame blink every `period` frames, the first at 0.75 of a period."""
    envelope = np.zeros(n_frames, np.float32)
    start = round(BLINK_OFFSET * period / 100)
    for first in range(start, n_frames, period):
        length = min(len(BLINK), n_frames - first)
        envelope[first : first + length] = BLINK[:length]
    return envelope


def inject_blinks(
    motion: Float[np.ndarray, "T 204"],
    eye_openness_open: float,
    eye_openness_closed: float,
    period: int = 100,
    *,
    mean_face: Float[np.ndarray, "68 3"],
    envelope: Float[np.ndarray, " T"] | None = None,
) -> tuple[Float32[np.ndarray, "T 204"], Float32[np.ndarray, " T"]]:
    """Inserts periodic blinks, in which the lid points move to the line between the eye's corners.

    Unlike in GeneFace++ the lids are not widened in all other frames, and the openness of open eyes is the person's own (there: a constant
    0.6). Apply this after `clamp`, which would weaken the blinks.

    Args:
      motion: the frames.
      eye_openness_open, eye_openness_closed: the person's openness of open and closed eyes, for example 97 % and 3 % quantiles.
      period: frames between blinks, at least 8.
      mean_face: decimeters; the lids meet in landmarks (motion / 10 + mean_face), not in displacements.
      envelope: closing 0..1 to use instead of the periodic one.

    Returns:
      (motion, eye openness).
    """
    if period <= len(BLINK):
        raise InputError(f"A blink every {period} frames leaves no time to open the eyes: give at least {len(BLINK) + 1}.")
    closed = blink_envelope(len(motion), period) if envelope is None else np.asarray(envelope, np.float32)
    offset = 10.0 * np.asarray(mean_face, np.float32).reshape(68, 3)
    points = motion.reshape(-1, 68, 3).astype(np.float32) + offset
    result = points.copy()
    amount = closed[:, None]
    for left, right, upper, lower in _EYES:
        for i, share in enumerate((1 / 3, 2 / 3)):
            shut = (1.0 - share) * points[:, left] + share * points[:, right]
            for lid in (upper[i], lower[i]):
                result[:, lid] = (1.0 - amount) * points[:, lid] + amount * shut
    openness = eye_openness_open * (1.0 - closed) + eye_openness_closed * closed
    return (result - offset).reshape(len(motion), -1), openness.astype(np.float32)
