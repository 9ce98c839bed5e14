"""Motion filters: clamp, smoothing, mouth amplitude, LLE projection, closing the mouth in silence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_tools.audio.sound import SAMPLES_PER_FRAME
from data_tools.errors import InputError
from data_tools.landmarks68 import BROWS, EYES, JAW, MOUTH
from geneface_jax.typing import Bool, Float, Float32, Num

# -------- Clamp, smoothing, mouth amplitude, LLE projection
#
# Motion is 68 points xyz, point-major (see docs/file-formats.md); one unit is 10 mm. Statistics are [204] or [68, 3].

UNCHANGED_MOUTH = 0.4
"""The mouth amplitude that leaves the prediction unchanged (GeneFace++'s default of the control)."""


def clamp(
    motion: Float[np.ndarray, "T 204"], mean: Float[np.ndarray, " ..."], std: Float[np.ndarray, " ..."], limit: float
) -> Float32[np.ndarray, "T 204"]:
    """Limits each coordinate to `limit` (GeneFace: 2.5) standard deviations around the person's mean; x, y of brows and eyes to half."""
    bound = np.full((68, 3), limit, np.float32)
    bound[BROWS, :2] = bound[EYES, :2] = limit / 2
    mean, reach = _flat(mean), _flat(std) * bound.reshape(-1)
    return np.clip(motion, mean - reach, mean + reach).astype(np.float32)


def smooth_exponential(motion: Float[np.ndarray, " T *shape"], keep: float = 0.2) -> Float32[np.ndarray, " T *shape"]:
    """y[0] = x[0]; y[t] = keep * y[t-1] + (1 - keep) * x[t]. Causal: delays by keep / (1 - keep) frames.

    `keep` is 0 (no smoothing) to < 1 (GeneFace: 0.2).
    """
    smoothed = np.array(motion, np.float32)
    for t in range(1, len(smoothed)):
        smoothed[t] = keep * smoothed[t - 1] + (1.0 - keep) * smoothed[t]
    return smoothed


def smooth_moving_average(x: Float[np.ndarray, " T *shape"], window: int) -> Float32[np.ndarray, " T *shape"]:
    """Centered mean over `window` frames (odd), without delay; the sequence (T >= 1) is reflected at its ends.

    A window longer than the sequence is reduced to its length.
    """
    if window < 1 or window % 2 == 0:
        raise InputError(f"The smoothing window is {window} frames: give an odd number.")
    half = min(window // 2, len(x) - 1)
    if half == 0:
        return np.array(x, np.float32)
    padded = np.concatenate([x[half:0:-1], x, x[-2 : -half - 2 : -1]]).astype(np.float64)
    total = np.concatenate([np.zeros((1, *padded.shape[1:])), np.cumsum(padded, axis=0)])
    width = 2 * half + 1
    return ((total[width:] - total[:-width]) / width).astype(np.float32)


def mouth_amplitude(motion: Float[np.ndarray, "T 204"], mean: Float[np.ndarray, " ..."], amount: float) -> Float32[np.ndarray, "T 204"]:
    """Scales the mouth's deviation from the person's mean by amount / 0.4 (0.4 = unchanged, 0 = a still mouth).

    The jaw follows by half: opening lips without a dropping chin look wrong, and the ends of the jaw line hardly move.
    """
    factor = amount / UNCHANGED_MOUTH
    scale = np.ones((68, 1), np.float32)
    scale[MOUTH] = factor
    scale[JAW] = 0.5 * (1.0 + factor)
    scale = np.broadcast_to(scale, (68, 3)).reshape(-1)
    mean = _flat(mean)
    return (mean + (motion - mean) * scale).astype(np.float32)


def lle_project(
    motion: Float[np.ndarray, "T D"], database: Float[np.ndarray, "N D"], K: int = 10, percent: float = 1.0, ridge: float = 1e-3
) -> Float32[np.ndarray, "T D"]:
    """Pulls each frame towards the affine span of its K nearest frames in the person's video (locally linear embedding).

    Weights w minimize |frame - sum w_k neighbor_k|^2 with sum w = 1, regularized by `ridge` times the mean of the Gram matrix's diagonal:
    repeated frames in the database would make the original's plain inverse singular.

    Args:
      motion: the frames.
      database: the person's own motion.
      K: number of neighbors, at most N.
      percent: 0 (unchanged) to 1 (full projection).
      ridge: regularization.
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


def lle_project_points(
    motion: Float[np.ndarray, "T 204"], database: Float[np.ndarray, "N 204"], points: Sequence[int], K: int, percent: float
) -> Float32[np.ndarray, "T 204"]:
    """`lle_project` of a subset of the landmarks, with neighbors by these points alone; the other points are unchanged.

    A mouth is then reconstructed from frames with similar mouths, independent of the rest of the face.
    """
    result = np.array(motion, np.float32).reshape(-1, 68, 3)
    subset, subset_database = (x.reshape(-1, 68, 3)[:, points].reshape(len(x), -1) for x in (result, database))
    result[:, points] = lle_project(subset, subset_database, K, percent).reshape(len(result), -1, 3)
    return result.reshape(-1, 204)


def _flat(statistic: Any) -> Float32[np.ndarray, " 204"]:
    return np.asarray(statistic, np.float32).reshape(-1)


# -------- Closing the mouth in silence
#
# GeneFace's vanilla NeRF inference sets the mouth to a frame chosen by the user if the RMS is below 1e-5, which real recordings never
# reach; GeneFace++ has no such control. Here silence is relative to the recording's loud frames, the closed mouth is the person's own, and
# ramps lead to it and back.

DIGITAL_SILENCE = -100.0
"""dB relative to full scale (an RMS of 1e-5): silent in any recording."""

LOUD_PERCENTILE = 95.0
"""Percentile of a recording's frame levels that defines how loud its speech is."""

RAMP = 4
"""Frames over which the mouth closes and opens again (0.16 s)."""

_INNER_LIPS = ((61, 67), (62, 66), (63, 65))


def loudness(samples: Num[np.ndarray, " N"], n_frames: int) -> Float32[np.ndarray, " T"]:
    """RMS level of every video frame in dB, 0 for a full-scale square wave, -120 for digital silence.

    Samples are mono at 16 kHz in -1..1, padded with zeros or cut to `n_frames` (at least 1).
    """
    padded = np.zeros(n_frames * SAMPLES_PER_FRAME, np.float64)
    sound = np.asarray(samples)[: len(padded)]
    padded[: len(sound)] = sound
    power = np.mean(padded.reshape(n_frames, SAMPLES_PER_FRAME) ** 2, axis=1)
    return (10.0 * np.log10(power + 1e-12)).astype(np.float32)


def silence_weight(level: Float[np.ndarray, " T"], below_db: float = 40.0, ramp: int = RAMP) -> Float32[np.ndarray, " T"]:
    """1 inside a pause, 0 in speech; the ramps lie within the pause, so that speech is not affected.

    Args:
      level: dB (`loudness`).
      below_db: a frame is silent if it is this much quieter than the recording's loud frames, or below -100 dB.
      ramp: frames, >= 1.
    """
    silent = level < max(float(np.percentile(level, LOUD_PERCENTILE)) - below_db, DIGITAL_SILENCE)
    return np.minimum(_ramp_up(silent, ramp), _ramp_up(silent[::-1], ramp)[::-1])


def _ramp_up(silent: Bool[np.ndarray, " T"], ramp: int) -> Float32[np.ndarray, " T"]:
    weight = np.zeros(len(silent), np.float32)
    run = 0
    for t, quiet in enumerate(silent):
        run = run + 1 if quiet else 0
        weight[t] = min(run / ramp, 1.0)
    return weight


def close_mouth_in_silence(
    motion: Float[np.ndarray, "T 204"], weight: Float[np.ndarray, " T"], closed_mouth: Float[np.ndarray, " 204"]
) -> Float32[np.ndarray, "T 204"]:
    """Blends the mouth points with those of the person's closed mouth (`most_closed_mouth`) by a weight 0..1 (`silence_weight`)."""
    result = motion.reshape(-1, 68, 3).astype(np.float32)
    rest = np.asarray(closed_mouth, np.float32).reshape(68, 3)[MOUTH]
    result[:, MOUTH] += np.asarray(weight, np.float32)[:, None, None] * (rest - result[:, MOUTH])
    return result.reshape(len(motion), -1)


def most_closed_mouth(motion: Float[np.ndarray, "T 204"], mean_face: Float[np.ndarray, "68 3"]) -> Float32[np.ndarray, " 204"]:
    """Mean of the 5 % of frames of a person's motion whose inner lips are closest together."""
    points = motion.reshape(-1, 68, 3) / 10.0 + np.asarray(mean_face).reshape(68, 3)
    gap = np.mean([np.linalg.norm(points[:, up] - points[:, low], axis=-1) for up, low in _INNER_LIPS], axis=0)
    count = max(1, len(motion) // 20)
    return motion[np.argsort(gap, kind="stable")[:count]].mean(axis=0).astype(np.float32)
