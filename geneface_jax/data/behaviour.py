"""What a pitch-aware audio2motion VAE is told about a face: when it blinks, and how far mouth and lids open (GeneFace++).

Distances are decimetres between landmarks, as in the original, so its default of 0.4 for a mouth that speaks holds here too. Landmarks are
motion / 10 + mean face; of the mean face only the distances that count are kept here. (BFM's mean face has other ones, by millimetres.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Two points of the 68 and their distance (x, y, z) on the mean face.
_Gap = tuple[int, int, tuple[float, float, float]]
OUTER_LIPS: _Gap = (51, 57, (0.0, 0.1959, 0.0444))
LIDS: tuple[_Gap, ...] = (
    (37, 41, (0.0, 0.0568, 0.0089)),
    (38, 40, (0.0, 0.0646, 0.0095)),
    (43, 47, (0.0, 0.0646, 0.0095)),
    (44, 46, (0.0, 0.0568, 0.0089)),
)
EYE_CORNERS: tuple[_Gap, ...] = ((36, 39, (-0.2589, 0.0079, -0.0584)), (42, 45, (-0.2589, -0.0079, 0.0584)))

WIDE = 0.9
"""Quantile over a clip's frames that is its amplitude."""

OPEN, SHUT = 0.75, 0.85
"""Lids are shut where they open less than SHUT times their OPEN quantile."""


class Behaviour(NamedTuple):
    """Of one clip.

    Attributes:
      blink: [T] int32, 1 in the middle frame of every blink, else 0.
      mouth_amp, eye_amp: decimetres.
    """

    blink: np.ndarray
    mouth_amp: float
    eye_amp: float


def behaviour(motion: np.ndarray) -> Behaviour:
    """Measures a clip of motion [T, 204], T >= 1, as stored (not in network space).

    The amplitude of the mouth is the 90 % quantile over frames of the distance |x| + |y| + |z| of points 51 and 57; that of the eyes is the
    same of the lids' four pairs of points. A blink is a run of frames whose lid gap, relative to the eye's width, is below 0.85 of its
    75 % quantile.
    """
    lips = np.abs(_between(motion, OUTER_LIPS)).sum(axis=-1)
    lids = [_between(motion, gap) for gap in LIDS]
    corners = [_between(motion, gap) for gap in EYE_CORNERS]
    openness = np.mean(np.linalg.norm(lids, axis=-1), axis=0) / np.maximum(np.mean(np.linalg.norm(corners, axis=-1), axis=0), 1e-6)
    eyes = np.abs(lids).sum(axis=-1).mean(axis=0)
    shut = openness < SHUT * np.quantile(openness, OPEN)
    return Behaviour(_middles(shut), float(np.quantile(lips, WIDE)), float(np.quantile(eyes, WIDE)))


def _between(motion: np.ndarray, gap: _Gap) -> np.ndarray:
    """[T, 3] decimetres from the second point to the first."""
    a, b, rest = gap
    points = motion.reshape(-1, 68, 3)
    return (points[:, a] - points[:, b]) / 10.0 + np.asarray(rest, np.float32)


def _middles(shut: np.ndarray) -> np.ndarray:
    """[T] bool -> [T] int32: of every run of True the middle frame alone."""
    edges = np.diff(np.concatenate([[0], shut.astype(np.int8), [0]]))
    first, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    blink = np.zeros(len(shut), np.int32)
    blink[(first + end - 1) // 2] = 1
    return blink
