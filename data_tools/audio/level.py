"""Level of a recording: loudness (ITU-R BS.1770-4), clipping, silence and background noise."""

import dataclasses
import math

import numpy as np
from scipy.signal import lfilter

BLOCK_SECONDS, STEP_SECONDS = 0.4, 0.1
"""Length and hop of the loudness blocks (BS.1770-4: 400 ms with 75 % overlap)."""

ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0
"""Gates of the loudness blocks: in LUFS, and in LU relative to the mean of the blocks above the first gate (BS.1770-4)."""

CLIPPED = 0.99
"""Amplitude from which on a sample counts as clipped; below 1 because resampling changes clipped samples in both directions."""

FRAME_SECONDS = 0.04
"""Silence is measured in frames as long as a video frame."""

SILENCE_BELOW_LOUD_DB, SILENCE_FLOOR_DB = 35.0, -60.0
"""A frame is silent this far below the recording's loud frames (their 95th percentile), or below this level."""


@dataclasses.dataclass(frozen=True)
class SoundLevel:
    """Level of a recording.

    Attributes:
      loudness: LUFS (integrated, gated); -inf for silence. Web speech is produced at -16 to -23.
      peak: dBFS, largest sample.
      clipped: fraction of the samples at full scale, 0..1.
      silent: fraction of the recording in pauses, 0..1.
      longest_pause: seconds.
      noise: dBFS, level of the quietest tenth: the background noise.
    """

    loudness: float
    peak: float
    clipped: float
    silent: float
    longest_pause: float
    noise: float


def measure_level(samples: np.ndarray, sample_rate: int) -> SoundLevel:
    """Measures a recording: [n] float samples, mono, full scale 1."""
    samples = np.asarray(samples, np.float64)
    level = frame_levels(samples, sample_rate)
    quiet = level < max(np.percentile(level, 95) - SILENCE_BELOW_LOUD_DB, SILENCE_FLOOR_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]]))).reshape(-1, 2)
    return SoundLevel(
        loudness=loudness(samples, sample_rate),
        peak=_decibels(np.abs(samples).max(initial=0.0) ** 2),
        clipped=float(np.mean(np.abs(samples) >= CLIPPED)) if len(samples) else 0.0,
        silent=float(quiet.mean()),
        longest_pause=float((edges[:, 1] - edges[:, 0]).max(initial=0) * FRAME_SECONDS),
        noise=float(np.percentile(level, 10)),
    )


def frame_levels(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """[n] samples -> [T] RMS level in dBFS of each frame of `FRAME_SECONDS`; an incomplete last frame is dropped unless it is the first."""
    length = round(FRAME_SECONDS * sample_rate)
    count = max(len(samples) // length, 1)
    padded = np.pad(samples, (0, max(length - len(samples), 0)))[: count * length]
    return 10.0 * np.log10(np.mean(padded.reshape(count, length) ** 2, axis=1) + 1e-12)


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of mono samples in LUFS (BS.1770-4); -inf if no block exceeds the absolute gate."""
    weighted = k_weighted(np.asarray(samples, np.float64), sample_rate)
    length, step = round(BLOCK_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    if len(weighted) < length:
        weighted = np.pad(weighted, (0, length - len(weighted)))
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, len(weighted) - length + 1, step)
    power = (energy[starts + length] - energy[starts]) / length
    power = power[_lufs(power) > ABSOLUTE_GATE]
    if not len(power):
        return -math.inf
    power = power[_lufs(power) > _lufs(power.mean()) + RELATIVE_GATE]
    return float(_lufs(power.mean()))


def k_weighted(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """K-weighting filter of BS.1770 (high shelf, then high pass), designed for any sample rate."""
    # High shelf: +4 dB above 1.7 kHz. The constants are the analog prototype of the standard's 48 kHz coefficients.
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    gain, q = 10.0 ** (3.999843853973347 / 20.0), 0.7071752369554196
    boost = gain**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    shelf = [(gain + boost * k / q + k * k) / a0, 2.0 * (k * k - gain) / a0, (gain - boost * k / q + k * k) / a0]
    samples = lfilter(shelf, [1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0], samples)
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    a0 = 1.0 + k / q + k * k
    return lfilter([1.0, -2.0, 1.0], [1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0], samples)


def _lufs(power: np.ndarray | float) -> np.ndarray:
    return -0.691 + 10.0 * np.log10(np.maximum(power, 1e-15))


def _decibels(power: float) -> float:
    return float(10.0 * np.log10(max(power, 1e-12)))
