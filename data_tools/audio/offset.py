"""Audio-video offset of a clip: measured mouth opening against the opening that its sound predicts.

The prediction is a function that the caller hands in (`OpeningPredictor`: `geneface_jax.inference.opening` has one from a network's
features), since loudness alone needed half a minute. With the thresholds of configs/corpus.py (score 5.5, margin 2):

- GRID's talkers, known shifts of up to ten frames, maps that were fitted without the talker (`scripts/grid_corpus.py --timing`): an offset
  within half a frame and within one in 78 % and 94 % of pieces of 4 s, 86 % and 98 % of 6 s, 92 % and 100 % of 10 s; wrong by more than
  one frame in 2.4, 2.5 and 0 % (the piece's talker leads or lags by up to half a frame himself), by more than three in none. Another
  talker's sound was believed in 1 of 20 pieces of 4 s and none of 12 of 6 s, but in 20 of 361 of 3 s: GRID's sentences have one rhythm.
- Web videos of four persons, against the estimate from the whole clip of 20 or 71 s and with the shipped map: within one frame in 62 % of
  pieces of 4 s, 83 % of 6 s, 88 % of 10 s; wrong by more in 0.8, 0 and 0 %. Another's sound was believed in 0.3 % of pieces of 4 s,
  0.7 % of 6 s and none of 10 s. On eight whole clips (5 to 71 s, -6 to +1.5 frames) it agrees with SyncNet's offset to 0.7 frames.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class OpeningPredictor:
    """What the opening is predicted with, passed to the data tools so that they do not depend on a network.

    Attributes:
      predict: (samples [n] at 16 kHz, number of video frames T) -> [T] mouth opening, in any unit.
      recipe: identifies everything except the sound that its values depend on.
    """

    predict: Callable[[np.ndarray, int], np.ndarray]
    recipe: str


PEAK_WIDTH = 3
"""Frames on each side of a peak that belong to it: a syllable is about five frames long."""


class OffsetThresholds(Protocol):
    """Thresholds of `Offset.confident`; the settings of a corpus have both (configs/corpus.py)."""

    @property
    def offset_min_score(self) -> float: ...
    @property
    def offset_min_margin(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Offset:
    """An estimated offset.

    Attributes:
      lag: frames by which the mouth is late (negative: early), with a fraction.
      score: correlation at the peak times the square root of the number of frames; by chance about 1 at a given lag, 3 to 4 at the best
        of thirty.
      margin: score minus the best score of the lags outside the peak.
    """

    lag: float
    score: float
    margin: float

    def confident(self, thresholds: OffsetThresholds) -> bool:
        """Whether the estimate passes both thresholds."""
        return self.score >= thresholds.offset_min_score and self.margin >= thresholds.offset_min_margin


NO_OFFSET = Offset(0.0, 0.0, 0.0)
"""Of a clip that gives none."""


def opening(motion_landmarks: np.ndarray) -> np.ndarray:
    """[T, 68, 3] landmarks -> [T] distance between the middles of the inner lips, in the landmarks' unit."""
    return np.linalg.norm(motion_landmarks[:, 62] - motion_landmarks[:, 66], axis=-1)


def estimate_offset(mouth: np.ndarray, predicted: np.ndarray, reach: int) -> Offset:
    """Finds the lag with the highest correlation of measured and predicted mouth opening, and the peak between the frames by a parabola.

    Args:
      mouth: [T] opening.
      predicted: [T] opening predicted from the sound.
      reach: largest lag searched, in frames.

    Returns:
      The offset; score and margin are 0 if the clip is too short (fewer than twice the lags searched) or a track is constant.
    """
    n_frames = min(len(mouth), len(predicted))
    if n_frames < 4 * reach + 2:
        return NO_OFFSET
    mouth, predicted = np.asarray(mouth[:n_frames], np.float64), np.asarray(predicted[:n_frames], np.float64)
    lag, height, margin = highest_peak(np.array([_at_lag(mouth, predicted, lag) for lag in range(-reach, reach + 1)]))
    return Offset(lag, height * n_frames**0.5, margin * n_frames**0.5)


def highest_peak(curve: np.ndarray) -> tuple[float, float, float]:
    """[2 * reach + 1] values at the lags -reach .. reach -> (lag of the highest, with a fraction; its value; by how much that exceeds the
    highest outside of its peak, 0 if there is none)."""
    best = int(np.argmax(curve))
    others = np.abs(np.arange(len(curve)) - best) > PEAK_WIDTH
    margin = curve[best] - curve[others].max() if others.any() else 0.0
    return best - len(curve) // 2 + peak_fraction(curve, best), float(curve[best]), float(margin)


def peak_fraction(curve: np.ndarray, best: int) -> float:
    """Where the parabola through a curve's highest value and its two neighbors peaks, -0.5 to 0.5 from it; 0 at the curve's ends."""
    if not 0 < best < len(curve) - 1:
        return 0.0
    before, at, after = (float(curve[best + k]) for k in (-1, 0, 1))
    bend = before - 2.0 * at + after
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def _at_lag(mouth: np.ndarray, predicted: np.ndarray, lag: int) -> float:
    """Correlation of the mouth with the prediction `lag` frames earlier."""
    n_frames = len(mouth) - abs(lag)
    return _pearson(mouth[max(lag, 0) :][:n_frames], predicted[max(-lag, 0) :][:n_frames])


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 else 0.0
