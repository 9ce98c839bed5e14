"""Blinks, from how far the eyes are open."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import percentile_filter
from scipy.signal import find_peaks

OPEN_SECONDS = 4.0
"""How long the eyes' normal opening is looked for around a frame: longer than a blink, shorter than a change of mood."""

CLOSED = 0.45
"""The lids are closed when they are nearer than this share of the normal opening ..."""

DEPTH = 0.25
"""... after having come nearer by this share of it at least, from both sides: lowered eyes are no blinks."""

APART_SECONDS = 0.16
"""Two blinks are at least this far apart."""


def find_blinks(openness: np.ndarray, fps: float) -> np.ndarray:
    """Frames at which the eyes are most closed.

    Args:
      openness: [T] lid gap / eye width (`geometry.eye_openness`).
      fps: frames per second.

    Returns:
      [n] int, increasing: one frame per blink.
    """
    openness = np.asarray(openness, np.float64)
    normal = percentile_filter(openness, 80, size=max(round(OPEN_SECONDS * fps), 1), mode="nearest")
    relative = openness / np.maximum(normal, 1e-6)
    peaks, _ = find_peaks(1.0 - relative, height=1.0 - CLOSED, prominence=DEPTH, distance=max(round(APART_SECONDS * fps), 1))
    return peaks
