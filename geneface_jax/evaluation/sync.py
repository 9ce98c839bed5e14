"""Does the mouth follow the sound? Correlations of the mouth's opening with another mouth's, or with the loudness of speech.

The true mouths of real speakers reach only 0.05 to 0.31 against loudness (four clips of 8 to 20 s): that figure shows that sound and mouth
belong together at all and is no scale of quality. The comparison with the true mouth is.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import signal

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE
from geneface_jax.data.motion import pearson

MAX_LAG = 5
"""Frames (0.2 s) searched to each side for the best lag."""

SPEECH_BAND = (300.0, 3000.0)
"""Hz: where opening the mouth makes speech louder. Below lies the voice's pitch, above the hiss of nearly shut teeth."""

LOUDNESS_EXPONENT = 0.3
"""Loudness grows with this power of intensity (Stevens)."""

_SAMPLES_PER_FRAME = SAMPLE_RATE // FPS


@dataclasses.dataclass(frozen=True)
class EnvelopeCorrelation:
    """Correlation of mouth opening with the audio's envelope.

    Attributes:
      correlation: Pearson, at zero lag.
      best, best_lag: the largest within +-5 frames and its lag (positive: the mouth is late).
      shuffled: mean correlation with the envelope's one-second blocks shuffled: what no relation gives.
      shuffled_95: 95 % of the shuffles stay below this.
    """

    correlation: float
    best: float
    best_lag: int
    shuffled: float
    shuffled_95: float


def best_lag(a: np.ndarray, b: np.ndarray, valid: np.ndarray | None = None, max_lag: int = MAX_LAG) -> tuple[float, int]:
    """Largest Pearson correlation over lags of -max_lag .. max_lag frames, and its lag; positive when `a` comes later than `b`.

    nan and 0 when no lag gives a correlation.
    """
    valid = np.ones(len(a), bool) if valid is None else valid
    max_lag = min(max_lag, max(len(a) - 3, 0))
    found = []
    for lag in range(-max_lag, max_lag + 1):
        late, early = slice(max(lag, 0), len(a) + min(lag, 0)), slice(max(-lag, 0), len(a) - max(lag, 0))
        found.append((pearson(a[late], b[early], valid[late] & valid[early]), lag))
    known = [(r, lag) for r, lag in found if np.isfinite(r)]
    return max(known, key=lambda pair: (pair[0], -abs(pair[1]))) if known else (float("nan"), 0)


def envelope(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """Loudness of speech per video frame: power between 300 and 3000 Hz to the 0.3, smoothed by (1, 2, 1) / 4, largest value 1.

    Args:
      samples: [n] at 16 kHz; padded with silence or cut to n_frames.

    Returns:
      [n_frames] float64 in 0 .. 1.
    """
    wanted = n_frames * _SAMPLES_PER_FRAME
    padded = np.pad(np.asarray(samples, np.float64)[:wanted], (0, max(0, wanted - len(samples))))
    speech = signal.sosfiltfilt(signal.butter(2, SPEECH_BAND, "bandpass", fs=SAMPLE_RATE, output="sos"), padded)
    loudness = (speech.reshape(n_frames, _SAMPLES_PER_FRAME) ** 2).mean(1) ** LOUDNESS_EXPONENT
    smooth = np.convolve(np.pad(loudness, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    return smooth / max(smooth.max(), 1e-12)


def envelope_correlation(
    opening: np.ndarray, samples: np.ndarray, valid: np.ndarray | None = None, *, shuffles: int = 200, seed: int = 0
) -> EnvelopeCorrelation:
    """Correlates mouth opening [T] (25 frames a second) with the envelope of samples [n] (16 kHz), and with shuffled envelopes.

    The shuffle moves blocks of one second, not single frames: blocks keep the rhythm of speech, which single frames would lose, making any
    control look good.
    """
    loudness = envelope(samples, len(opening))
    best, lag = best_lag(opening, loudness, valid)
    rng = np.random.default_rng(seed)
    blocks = np.array_split(loudness, max(2, round(len(loudness) / FPS)))
    control = []
    for _ in range(shuffles):
        order = rng.permutation(len(blocks))
        control.append(pearson(opening, np.concatenate([blocks[i] for i in order]), valid))
    return EnvelopeCorrelation(
        correlation=pearson(opening, loudness, valid),
        best=best,
        best_lag=lag,
        shuffled=float(np.mean(control)),
        shuffled_95=float(np.percentile(control, 95)),
    )
