"""Motion filters: clamp, smoothing, mouth amplitude, LLE projection, blink injection, closing the mouth in silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE
from data_tools.errors import InputError
from data_tools.landmarks68 import BROWS, EYES, JAW, MOUTH

# ----------------------------------------------------------------------------------------------------
# What happens to a predicted motion before it is drawn: limits, smoothing, mouth size, the person's own frames, blinks.
#
# Pure functions of numpy arrays. Motion is [T, 204] float32 (68 points xyz, point-major; see docs/file-formats.md); one unit is 10 mm.
# Statistics are [204], or anything that reshapes to it.

UNCHANGED_MOUTH = 0.4
"""The mouth amplitude that leaves the prediction alone (GeneFace++'s default of the control)."""

# One blink: how far the lids have come together in each of its frames (GeneFace++).
BLINK = (0.1, 0.5, 0.7, 1.0, 0.7, 0.5, 0.1)
BLINK_OFFSET = 75
"""First frame of the first blink when the period is 100; scaled with the period."""

# Each eye: (outer or left corner, right corner, upper lid from left to right, lower lid from left to right).
_EYES = ((36, 39, (37, 38), (41, 40)), (42, 45, (43, 44), (47, 46)))


def clamp(motion: np.ndarray, mean: np.ndarray, std: np.ndarray, limit: float) -> np.ndarray:
    """Keeps every coordinate within `limit` standard deviations of the person's mean; x and y of brows and eyes within half of that.

    Args:
      motion: [T, 204]. mean, std: [204]. limit: > 0 (GeneFace: 2.5).
    """
    bound = np.full((68, 3), limit, np.float32)
    bound[BROWS, :2] = bound[EYES, :2] = limit / 2
    mean, reach = _flat(mean), _flat(std) * bound.reshape(-1)
    return np.clip(motion, mean - reach, mean + reach).astype(np.float32)


def smooth_exponential(motion: np.ndarray, keep: float = 0.2) -> np.ndarray:
    """y[0] = x[0]; y[t] = keep * y[t-1] + (1 - keep) * x[t]. Causal: delays by keep / (1 - keep) frames.

    Args:
      motion: [T, ...]. keep: 0 (no smoothing) to < 1 (GeneFace: 0.2).
    """
    smoothed = np.array(motion, np.float32)
    for t in range(1, len(smoothed)):
        smoothed[t] = keep * smoothed[t - 1] + (1.0 - keep) * smoothed[t]
    return smoothed


def smooth_moving_average(x: np.ndarray, window: int) -> np.ndarray:
    """Mean over `window` frames (odd) around each, the sequence reflected at its ends, so that nothing is delayed.

    Args:
      x: [T, ...], T >= 1. window: odd, >= 1; more than a sequence holds is cut to what it holds.
    """
    if window < 1 or window % 2 == 0:
        raise InputError(f"the smoothing window is {window} frames; give an odd number.")
    half = min(window // 2, len(x) - 1)
    if half == 0:
        return np.array(x, np.float32)
    padded = np.concatenate([x[half:0:-1], x, x[-2 : -half - 2 : -1]]).astype(np.float64)
    total = np.concatenate([np.zeros((1, *padded.shape[1:])), np.cumsum(padded, axis=0)])
    width = 2 * half + 1
    return ((total[width:] - total[:-width]) / width).astype(np.float32)


def mouth_amplitude(motion: np.ndarray, mean: np.ndarray, amount: float) -> np.ndarray:
    """Scales the mouth's and the jaw's deviation from the person's mean by amount / 0.4 (0.4 = unchanged, 0 = a still mouth).

    The jaw follows by half: lips that part without a chin that drops look wrong, and the jaw line's ends hardly move.

    Args:
      motion: [T, 204]. mean: [204]. amount: 0..1.
    """
    factor = amount / UNCHANGED_MOUTH
    scale = np.ones((68, 1), np.float32)
    scale[MOUTH] = factor
    scale[JAW] = 0.5 * (1.0 + factor)
    scale = np.broadcast_to(scale, (68, 3)).reshape(-1)
    mean = _flat(mean)
    return (mean + (motion - mean) * scale).astype(np.float32)


def lle_project(motion: np.ndarray, database: np.ndarray, K: int = 10, percent: float = 1.0, ridge: float = 1e-3) -> np.ndarray:
    """Pulls each frame towards the affine span of its K nearest frames in the person's video (locally linear embedding).

    Weights w minimise |frame - sum w_k neighbour_k|^2 with sum w = 1, regularised by `ridge` times the mean of the Gram matrix's diagonal:
    repeated frames in the database, which make the original's plain inverse blow up, are harmless.

    Args:
      motion: [T, D]. database: [N, D], the person's own motion; K is cut to N. percent: 0 (unchanged) to 1 (wholly projected).

    Returns:
      [T, D] float32.
    """
    neighbors = min(K, len(database))
    if percent == 0 or neighbors == 0:
        return np.array(motion, np.float32)
    frames, base = motion.astype(np.float64), database.astype(np.float64)
    distance = np.sum(frames**2, 1)[:, None] - 2.0 * frames @ base.T + np.sum(base**2, 1)[None, :]
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :neighbors]
    points = base[nearest]
    origin = points[:, :1]
    if neighbors == 1:
        projected = origin[:, 0]
    else:
        axes = points[:, 1:] - origin
        gram = axes @ axes.transpose(0, 2, 1)
        load = ridge * np.trace(gram, axis1=1, axis2=2)[:, None, None] / (neighbors - 1) + 1e-12
        right = axes @ (frames[:, None] - origin).transpose(0, 2, 1)
        weights = np.linalg.solve(gram + load * np.eye(neighbors - 1), right)
        projected = (origin + weights.transpose(0, 2, 1) @ axes)[:, 0]
    return (percent * projected + (1.0 - percent) * frames).astype(np.float32)


def lle_project_points(motion: np.ndarray, database: np.ndarray, points: Sequence[int], K: int, percent: float) -> np.ndarray:
    """`lle_project` of some of the points, with neighbours of their own; the others stay.

    A mouth is thus rebuilt from the person's mouths, whatever the brows did in those frames, which the whole face's neighbours can't do.

    Args:
      motion: [T, 204]. database: [N, 204]. points: numbers of landmarks. K, percent: as `lle_project`.

    Returns:
      [T, 204] float32.
    """
    result = np.array(motion, np.float32).reshape(-1, 68, 3)
    chosen, own = (x.reshape(-1, 68, 3)[:, points].reshape(len(x), -1) for x in (result, database))
    result[:, points] = lle_project(chosen, own, K, percent).reshape(len(result), -1, 3)
    return result.reshape(-1, 204)


def blink_envelope(n_frames: int, period: int = 100) -> np.ndarray:
    """[T] float32: 0 = open, 1 = shut; a seven-frame blink every `period` frames (first at 0.75 of a period)."""
    envelope = np.zeros(n_frames, np.float32)
    start = round(BLINK_OFFSET * period / 100)
    for first in range(start, n_frames, period):
        length = min(len(BLINK), n_frames - first)
        envelope[first : first + length] = BLINK[:length]
    return envelope


def inject_blinks(
    motion: np.ndarray,
    eye_openness_open: float,
    eye_openness_closed: float,
    period: int = 100,
    *,
    mean_face: np.ndarray,
    envelope: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Closes the eyes every few seconds.

    During a blink the lid points move towards the line between the eye's corners. Unlike in GeneFace++ the lids are not widened in all
    other frames, the eye openness of an open eye is the person's own (there: a constant 0.6), and nothing clamps the blink away: apply this
    after `clamp`.

    Args:
      motion: [T, 204].
      eye_openness_open, eye_openness_closed: the person's eye openness with open and with shut eyes, for example their 97 % and 3 %
        quantiles.
      period: frames between blinks, at least 8.
      mean_face: [68, 3] decimetres: the lids meet in landmarks (motion / 10 + mean_face), not in displacements.
      envelope: [T] of 0..1 to use instead of the periodic one.

    Returns:
      (motion [T, 204], eye openness [T]) float32.
    """
    if period <= len(BLINK):
        raise InputError(f"a blink every {period} frames leaves no time to open the eyes; give at least {len(BLINK) + 1}.")
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


def _flat(statistic: np.ndarray) -> np.ndarray:
    return np.asarray(statistic, np.float32).reshape(-1)


# ----------------------------------------------------------------------------------------------------
# The mouth in silence: nobody speaks, so it rests. GeneFace offers this in its vanilla NeRF's inference, GeneFace++ not at all.
#
# There the mouth jumps to one frame that the user names wherever the sound's RMS is below 1e-5, which no real recording reaches. Here
# silence is measured against the recording's own loud frames, the rest is the person's own shut mouth, and ramps lead there and back.

DIGITAL_SILENCE = -100.0
"""dB below full scale (an RMS of 1e-5): silent in any recording."""

LOUD_PERCENTILE = 95.0
"""Of a recording's frames: how loud its speech is."""

RAMP = 4
"""Frames over which the mouth goes to rest and comes back (0.16 s)."""

_SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
_INNER_LIPS = ((61, 67), (62, 66), (63, 65))


def loudness(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """[n_frames] float32: RMS level of every video frame in dB, 0 for a full-scale square wave, -120 for digital silence.

    Args:
      samples: [n] mono sound at 16 kHz in -1..1; padded with zeros, or cut, to n_frames.
      n_frames: at least 1.
    """
    padded = np.zeros(n_frames * _SAMPLES_PER_FRAME, np.float64)
    sound = np.asarray(samples)[: len(padded)]
    padded[: len(sound)] = sound
    power = np.mean(padded.reshape(n_frames, _SAMPLES_PER_FRAME) ** 2, axis=1)
    return (10.0 * np.log10(power + 1e-12)).astype(np.float32)


def silence_weight(level: np.ndarray, below_db: float = 40.0, ramp: int = RAMP) -> np.ndarray:
    """[T] float32: 1 inside a pause, 0 in speech, and ramps that lie within the pause, so that no sound loses its mouth.

    Args:
      level: [T] dB (`loudness`).
      below_db: a frame is silent when it is this much quieter than the recording's loud frames, or below -100 dB.
      ramp: frames, >= 1.
    """
    silent = level < max(float(np.percentile(level, LOUD_PERCENTILE)) - below_db, DIGITAL_SILENCE)
    return np.minimum(_ramp_up(silent, ramp), _ramp_up(silent[::-1], ramp)[::-1])


def _ramp_up(silent: np.ndarray, ramp: int) -> np.ndarray:
    weight = np.zeros(len(silent), np.float32)
    run = 0
    for t, quiet in enumerate(silent):
        run = run + 1 if quiet else 0
        weight[t] = min(run / ramp, 1.0)
    return weight


def close_mouth_in_silence(motion: np.ndarray, weight: np.ndarray, closed_mouth: np.ndarray) -> np.ndarray:
    """Brings the mouth points to rest where nobody speaks.

    Args:
      motion: [T, 204]. weight: [T] 0..1, how much of the rest each frame takes (`silence_weight`).
      closed_mouth: [204], the person with a shut mouth; only its mouth points are used (`most_closed_mouth`).

    Returns:
      [T, 204] float32.
    """
    result = motion.reshape(-1, 68, 3).astype(np.float32)
    rest = np.asarray(closed_mouth, np.float32).reshape(68, 3)[MOUTH]
    result[:, MOUTH] += np.asarray(weight, np.float32)[:, None, None] * (rest - result[:, MOUTH])
    return result.reshape(len(motion), -1)


def most_closed_mouth(motion: np.ndarray, mean_face: np.ndarray) -> np.ndarray:
    """[204]: the mean of the 5 % of frames of a person's motion [T, 204] whose inner lips are closest together."""
    points = motion.reshape(-1, 68, 3) / 10.0 + np.asarray(mean_face).reshape(68, 3)
    gap = np.mean([np.linalg.norm(points[:, up] - points[:, low], axis=-1) for up, low in _INNER_LIPS], axis=0)
    count = max(1, len(motion) // 20)
    return motion[np.argsort(gap, kind="stable")[:count]].mean(axis=0).astype(np.float32)
