"""Landmark motion: normalization and windows, motion metrics, blink and amplitude conditions, eye boxes and closed-eye frames."""

from typing import NamedTuple

import numpy as np

from data_tools.landmarks68 import MOUTH

# -------- Head conditions: normalized motion in windows, the same in training, evaluation and inference

STD_FLOOR = 0.02
"""Smallest standard deviation that motion is divided by (0.2 mm on a face), so that points that hardly move are not amplified."""


def normalize_motion(motion: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(motion - mean) / std, flattened to [T, 204]; motion is [T, 68, 3] or [T, 204], mean and std are [68, 3]."""
    flat = np.asarray(motion, np.float32).reshape(len(motion), -1)
    return (flat - mean.reshape(1, -1)) / np.maximum(std.reshape(1, -1), STD_FLOOR)


def windows(x: np.ndarray, size: int, inner: int = 1) -> np.ndarray:
    """Windows of `size` frames from i - size // 2 on for each frame i, with edge padding.

    The original pads with zeros in training and with edges at inference; here both pad with edges (docs/deviations.md).

    Args:
      x: [T, C].
      size: S, frames that the attention weighs.
      inner: W, frames of the inner window around each of them (`condition_frames`).

    Returns:
      [T, S, C], or [T, S, W, C] for W > 1.
    """
    if inner > 1:
        x = windows(x, inner)
    index = np.arange(len(x))[:, None] + np.arange(size) - size // 2
    return x[np.clip(index, 0, len(x) - 1)]


# -------- Motion metrics of training and evaluation; a motion is [T, 68, 3] in the 68-point convention, or flattened to [T, 204]

_UPPER_INNER_LIP, _LOWER_INNER_LIP = (61, 62, 63), (67, 66, 65)


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """[..., 68, C] -> [...]: inner lip gap over the distance of the mouth's outer corners; 0 = closed.

    Needs landmarks; for a motion whose mean face is unknown use `lip_distance`.
    """
    gap = np.linalg.norm(landmarks[..., 62, :] - landmarks[..., 66, :], axis=-1)
    width = np.linalg.norm(landmarks[..., 48, :] - landmarks[..., 54, :], axis=-1)
    return gap / np.maximum(width, 1e-6)


def lip_distance(motion: np.ndarray) -> np.ndarray:
    """Motion of T frames -> [T]: vertical distance of the inner lips in the motion's unit, up to the mean face's own (a constant)."""
    points = motion.reshape(-1, 68, 3)
    return (points[:, _UPPER_INNER_LIP, 1] - points[:, _LOWER_INNER_LIP, 1]).mean(axis=-1)


def motion_lmd(prediction: np.ndarray, truth: np.ndarray, points: slice = MOUTH) -> float:
    """Landmark distance (LMD) of two motions after subtracting each clip's mean, since identity can't be predicted from speech.

    Args:
      prediction, truth: motions of T frames in the same unit. A face that does not move is `np.zeros_like(truth)`.
      points: which of the 68.

    Returns:
      mean distance of the points, in the motions' unit.
    """
    centered = [(x - x.mean(0, keepdims=True)).reshape(-1, 68, 3)[:, points] for x in (prediction, truth)]
    return float(np.linalg.norm(centered[0] - centered[1], axis=-1).mean())


def pearson(a: np.ndarray, b: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Pearson correlation of two [T] tracks over valid frames; nan if one is constant or fewer than three frames are valid."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if valid is not None:
        a, b = a[valid], b[valid]
    if len(a) < 3:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 else float("nan")


# -------- Blink and amplitude conditions of the pitch-aware audio2motion VAE (GeneFace++)
#
# Distances are decimeters between landmarks, as in the original, so its default mouth amplitude of 0.4 applies here too. Landmarks are
# motion / 10 + mean face; only the needed distances of the mean face are stored here (those of BFM's mean face differ by millimeters).

# Two of the 68 points and their offset (x, y, z) on the mean face.
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
"""Quantile over a clip's frames that is taken as its amplitude."""

OPEN, SHUT = 0.75, 0.85
"""Eyes count as closed where the lid gap is less than SHUT times its OPEN quantile."""


class BlinkAndAmplitude(NamedTuple):
    """Blink and amplitude conditions of one clip.

    Attributes:
      blink: [T] int32, 1 in the middle frame of every blink, else 0.
      mouth_amp, eye_amp: decimeters.
    """

    blink: np.ndarray
    mouth_amp: float
    eye_amp: float


def blink_and_amplitude(motion: np.ndarray) -> BlinkAndAmplitude:
    """Measures a clip of motion [T, 204], T >= 1, as stored (not in network space).

    The mouth amplitude is the 90 % quantile over frames of the L1 distance of points 51 and 57; the eye amplitude is the same for the mean
    of the lids' four pairs of points. A blink is a run of frames whose lid gap, relative to the eye's width, is below 0.85 of its 75 %
    quantile.
    """
    lips = np.abs(_between(motion, OUTER_LIPS)).sum(axis=-1)
    lids = [_between(motion, gap) for gap in LIDS]
    corners = [_between(motion, gap) for gap in EYE_CORNERS]
    openness = np.mean(np.linalg.norm(lids, axis=-1), axis=0) / np.maximum(np.mean(np.linalg.norm(corners, axis=-1), axis=0), 1e-6)
    eyes = np.abs(lids).sum(axis=-1).mean(axis=0)
    shut = openness < SHUT * np.quantile(openness, OPEN)
    return BlinkAndAmplitude(_middles(shut), float(np.quantile(lips, WIDE)), float(np.quantile(eyes, WIDE)))


def _between(motion: np.ndarray, gap: _Gap) -> np.ndarray:
    """[T, 3] decimeters from the second point to the first."""
    a, b, rest = gap
    points = motion.reshape(-1, 68, 3)
    return (points[:, a] - points[:, b]) / 10.0 + np.asarray(rest, np.float32)


def _middles(shut: np.ndarray) -> np.ndarray:
    """[T] bool -> [T] int32: 1 in the middle frame of every run of True."""
    edges = np.diff(np.concatenate([[0], shut.astype(np.int8), [0]]))
    first, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    blink = np.zeros(len(shut), np.int32)
    blink[(first + end - 1) // 2] = 1
    return blink


# -------- Eye boxes and closed-eye frames, which training samples more densely
#
# A blink is a few dozen pixels in one frame of fifteen: with rays drawn uniformly over faces and frames, one in a thousand hits a closed
# lid, and the trained field would keep its eyes open whatever the condition says.

EYES = (slice(36, 42), slice(42, 48))
"""Outlines of the right and the left eye among the 68 points."""

MARGIN = 0.35
"""Margin around an eye's outline, in widths of the eye, to include lids and lashes."""

EYE_SHUT = 0.5
"""Eyes count as closed below this fraction of the range from least to median openness."""

BLINKS = 0.6
"""A video has blinks if its least openness is below this fraction of the median."""

MAX_OVERSAMPLING = 3.0
"""Largest factor by which closed-eye frames are oversampled: a video with two blinks would otherwise be overfitted."""


def eye_boxes(landmarks_2d: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around both eyes.

    Args:
      landmarks_2d: [T, 68, 2] pixels (x, y).
      size: pixels of the square picture's side.

    Returns:
      (right, left), each [T, 4] int32 x0, y0, x1, y1, x1 and y1 exclusive, clipped to the picture and never empty.
    """
    boxes = []
    for points in EYES:
        low, high = landmarks_2d[:, points].min(axis=1), landmarks_2d[:, points].max(axis=1)
        margin = MARGIN * (high[:, :1] - low[:, :1])
        first = np.clip(np.floor(low - margin), 0, size - 1)
        last = np.clip(np.ceil(high + margin), first + 1, size)
        boxes.append(np.concatenate([first, last], axis=1).astype(np.int32))
    return boxes[0], boxes[1]


def shut_frames(eye_openness: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The `candidates` [n] (frame numbers) with closed or nearly closed eyes; empty if the person never blinks.

    Args:
      eye_openness: [T], in any unit that grows with the lid gap.
    """
    return candidates[_shut(eye_openness[candidates])]


def shut_share(wanted: float, shut: np.ndarray, candidates: np.ndarray) -> float:
    """Share of frames to draw from `shut` [m] among `candidates` [n]: `wanted`, limited by `MAX_OVERSAMPLING`."""
    return min(wanted, MAX_OVERSAMPLING * len(shut) / max(len(candidates), 1))


def count_blinks(eye_openness: np.ndarray) -> int:
    """Number of separate runs of closed-eye frames in openness [T]."""
    return int(np.sum(np.diff(_shut(eye_openness).astype(int), prepend=0) == 1))


def _shut(openness: np.ndarray) -> np.ndarray:
    """[T] -> [T] bool, whether the eyes are closed."""
    if not len(openness):
        return np.zeros(0, bool)
    median, least = np.median(openness), np.quantile(openness, 0.005)
    if least > BLINKS * median:
        return np.zeros(len(openness), bool)
    return openness < least + EYE_SHUT * (median - least)
