"""Audio-video offset from the correlation of mouth opening and speech loudness.

Loudness and mouth opening correlate weakly (0.1 to 0.5 in good videos), so an offset is accepted only if one lag stands out, and most
short clips yield none: shifting the audio of a good clip costs more than keeping a bad one. With the thresholds of configs/corpus.py,
overlapping pieces of four videos of real speakers yielded an offset within three frames of the true one in 1 % of 6 s pieces, 14 % of
10 s and 35 % of 12 s, and a wrong one in 0.5 % of pieces of 4 and 5 s and in none of the other lengths; a mouth with another speaker's
audio yielded none in 2,262 pieces. The avatar, whose mouth follows its audio, yielded a correct one in 94 % of 7 s pieces.
"""

import dataclasses
from typing import Protocol

import numpy as np

SPEECH_BANDS = slice(5, 55)
"""Mel bands of about 300 to 3000 Hz, where speech gets louder with mouth opening: f0 lies below, sibilants above."""

LOUDNESS_EXPONENT = 0.6
"""Stevens' power law: loudness grows with intensity to the power of 0.3, magnitude to the power of 0.6."""

PEAK_WIDTH = 3
"""Frames on each side of a peak that belong to it: a syllable is about five frames long."""

TREND_FRAMES = 13
"""Window of the moving average that is subtracted (half a second): syllables remain, which carry the synchronization."""


class OffsetThresholds(Protocol):
    """Thresholds of `Offset.confident`; the settings of a corpus have both (configs/corpus.py)."""

    offset_min_score: float
    offset_min_margin: float


@dataclasses.dataclass(frozen=True)
class Offset:
    """An estimated offset.

    Attributes:
      lag: frames by which the mouth is late (negative: early).
      score: correlation at the peak times the square root of the number of frames; by chance about 1 at a given lag, 3 to 4 at the best
        of thirty.
      margin: score minus the best score of the lags outside the peak.
    """

    lag: int
    score: float
    margin: float

    def confident(self, thresholds: OffsetThresholds) -> bool:
        """Whether the estimate passes both thresholds."""
        return self.score >= thresholds.offset_min_score and self.margin >= thresholds.offset_min_margin


def loudness(audio_features: np.ndarray) -> np.ndarray:
    """[2T, 80] log10 mel magnitude -> [T] speech loudness per video frame."""
    magnitude = 10.0 ** np.asarray(audio_features, np.float64)[:, SPEECH_BANDS]
    return (magnitude.mean(1) ** LOUDNESS_EXPONENT).reshape(-1, 2).mean(1)


def opening(motion_landmarks: np.ndarray) -> np.ndarray:
    """[T, 68, 3] landmarks -> [T] distance between the middles of the inner lips, in the landmarks' unit."""
    return np.linalg.norm(motion_landmarks[:, 62] - motion_landmarks[:, 66], axis=-1)


def estimate_offset(mouth: np.ndarray, sound: np.ndarray, reach: int) -> Offset:
    """Finds the lag with the highest correlation of mouth opening and loudness.

    Args:
      mouth: [T] opening.
      sound: [T] loudness.
      reach: largest lag searched, in frames.

    Returns:
      The offset; score and margin are 0 if the clip is too short (fewer than twice the lags searched) or a track is constant.
    """
    n_frames = min(len(mouth), len(sound))
    if n_frames < 4 * reach + 2:
        return Offset(0, 0.0, 0.0)
    mouth, sound = _detrended(mouth[:n_frames]), _detrended(sound[:n_frames])
    lags = np.arange(-reach, reach + 1)
    correlation = np.array([_at_lag(mouth, sound, lag) for lag in range(-reach, reach + 1)])
    best = int(np.argmax(correlation))
    others = np.abs(lags - lags[best]) > PEAK_WIDTH
    margin = correlation[best] - correlation[others].max() if others.any() else 0.0
    return Offset(int(lags[best]), float(correlation[best] * n_frames**0.5), float(margin * n_frames**0.5))


def _at_lag(mouth: np.ndarray, sound: np.ndarray, lag: int) -> float:
    """Correlation of the mouth with the loudness `lag` frames earlier."""
    n_frames = len(mouth) - abs(lag)
    return _pearson(mouth[max(lag, 0) :][:n_frames], sound[max(-lag, 0) :][:n_frames])


def _detrended(track: np.ndarray) -> np.ndarray:
    """The track minus its moving average over `TREND_FRAMES`."""
    kernel = np.ones(TREND_FRAMES)
    weight = np.convolve(np.ones(len(track)), kernel, mode="same")
    return track - np.convolve(track, kernel, mode="same") / weight


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 else 0.0
