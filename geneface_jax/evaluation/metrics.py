"""Metrics: PSNR and SSIM on masked pixels, LPIPS, landmark distance and jitter, sync correlations."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, signal
from scipy.spatial import ConvexHull, QhullError
from skimage.metrics import structural_similarity

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE
from data_tools.landmarks68 import LANDMARKS_68
from geneface_jax.data.motion import MOUTH, pearson
from geneface_jax.io.weights import find_lpips, load_lpips
from geneface_jax.models.lpips import SMALLEST, lpips

# ----------------------------------------------------------------------------------------------------
# How alike two pictures are: PSNR and SSIM on named pixels of 8-bit RGB.


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of one frame, over the three channels of the masked pixels.

    A clip's PSNR is the mean of its frames' values (not the PSNR of the mean error).

    Args:
      image, truth: uint8 [H, W, 3].
      mask: bool [H, W]; None is the whole frame.

    Returns:
      dB; inf for equal pixels, nan for an empty mask.
    """
    error = (image.astype(np.float32) - truth.astype(np.float32)) ** 2
    values = error if mask is None else error[mask]
    if values.size == 0:
        return float("nan")
    mse = float(values.mean(dtype=np.float64))
    return float("inf") if mse == 0 else 10.0 * np.log10(255.0**2 / mse)


def difference(image: np.ndarray, truth: np.ndarray, gain: int = 4) -> np.ndarray:
    """uint8 [H, W, 3]: the absolute difference of two pictures, `gain` times as bright, black where equal."""
    return np.clip(np.abs(image.astype(np.int16) - truth) * gain, 0, 255).astype(np.uint8)


def ssim_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity per pixel (Wang et al. 2004): scikit-image, Gaussian window (sigma 1.5), data range 255, channel mean.

    A region's SSIM is the mean of this map over its pixels; the map itself always sees the whole frame.

    Args:
      image, truth: uint8 [H, W, 3], at least 11 pixels high and wide.

    Returns:
      [H, W] float, 1 where equal.
    """
    _, similarity = structural_similarity(
        image, truth, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return similarity.mean(-1)


# ----------------------------------------------------------------------------------------------------
# The pixels a figure is about: face hull, head, mouth, and the band where head and torso meet.

HULL_DILATION = 15
"""Side in pixels, at 256x256, of the square that widens the face hull; scaled with the size."""

NECK_BAND = 16
"""Width in pixels, at 256x256, of the band around the border between head and torso; scaled with the size."""

MOUTH_SCALE = 1.5
"""Sides of the mouth region over those of the lip box."""


def face_hull_mask(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Convex hull of a frame's landmarks, dilated by a 15x15 square at 256x256.

    Args:
      landmarks: [N, 2 or more] pixels at `size`; x, y first. Pixel (0, 0) covers [0, 1) x [0, 1).
      size: H = W.

    Returns:
      bool [size, size]; all False when the points span no area.
    """
    points = np.asarray(landmarks, np.float64)[:, :2]
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return np.zeros((size, size), bool)
    canvas = Image.new("1", (size, size))
    # Image coordinates name pixel centres, landmarks name positions: half a pixel apart.
    ImageDraw.Draw(canvas).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
    side = 2 * round((HULL_DILATION // 2) * size / 256) + 1
    return ndimage.maximum_filter(np.asarray(canvas, np.uint8), size=side, mode="constant") > 0


def hard_head_mask(mask: np.ndarray) -> np.ndarray:
    """Soft head mask uint8 [H, W] -> bool [H, W]: more head than not."""
    return mask >= 128


def neck_band_mask(head_mask: np.ndarray, torso_alpha: np.ndarray) -> np.ndarray:
    """Where head and torso meet: a band 16 pixels wide, at 256x256, along their border in the true frame.

    A pixel belongs to it when both the head and what shows of the torso (its opacity less the head) are at most 8 pixels away. A seam or a
    second chin lies in here.

    Args:
      head_mask: uint8 [H, W], 255 = head.
      torso_alpha: uint8 [H, W], opacity of the torso picture, whose neck goes on behind the head.

    Returns:
      bool [H, W]; all False where they do not meet.
    """
    on_head = hard_head_mask(head_mask)
    shown = (torso_alpha >= 128) & ~on_head
    if not on_head.any() or not shown.any():
        return np.zeros_like(on_head)
    reach = NECK_BAND / 2 * on_head.shape[0] / 256
    return (ndimage.distance_transform_edt(~on_head) <= reach) & (ndimage.distance_transform_edt(~shown) <= reach)


def mouth_mask(lip_box: np.ndarray, size: int, source_size: int | None = None) -> np.ndarray:
    """The lip box about its centre, 1.5 times as wide and high.

    Args:
      lip_box: [4] x0, y0, x1, y1 in pixels at `source_size`, x1 and y1 exclusive.
      size: H = W of the result.
      source_size: size the box was measured at; `size` when None.

    Returns:
      bool [size, size].
    """
    box = np.asarray(lip_box, np.float64) * (size / (source_size or size))
    center, half = (box[:2] + box[2:]) / 2, MOUTH_SCALE * (box[2:] - box[:2]) / 2
    x0, y0 = np.clip(np.rint(center - half), 0, size).astype(int)
    x1, y1 = np.clip(np.rint(center + half), 0, size).astype(int)
    out = np.zeros((size, size), bool)
    out[y0:y1, x0:x1] = True
    return out


# ----------------------------------------------------------------------------------------------------
# Figures about landmarks: the distance between two faces, how much a track trembles.
#
# All functions take the 68-point convention; `from_mediapipe` picks those points out of MediaPipe's 478.

NOSE = slice(27, 36)


def from_mediapipe(landmarks: np.ndarray) -> np.ndarray:
    """[..., 478, C] -> [..., 68, C]."""
    return landmarks[..., LANDMARKS_68, :]


def lmd(a: np.ndarray, b: np.ndarray) -> float:
    """Landmark distance of two videos: mean distance in pixels over the mouth's points 48 to 67, faces aligned at the nose.

    Aligned means that each frame's mean of the nose points 27 to 35 is subtracted, so that a shift of the head does not count.

    Args:
      a, b: [T, 68, 2 or more] pixels at the same size; x and y are used.
    """
    aligned = [x[:, MOUTH, :2] - x[:, NOSE, :2].mean(1, keepdims=True) for x in (a, b)]
    return float(np.linalg.norm(aligned[0] - aligned[1], axis=-1).mean())


def jitter(track: np.ndarray) -> float:
    """Mean absolute second difference over time, in the unit of the track; points are measured by distance.

    Args:
      track: [T, ...]; with three axes or more the last one holds coordinates.
    """
    if len(track) < 3:
        return 0.0
    second = track[2:] - 2.0 * track[1:-1] + track[:-2]
    return float(np.abs(second).mean() if second.ndim < 3 else np.linalg.norm(second, axis=-1).mean())


def pose_jitter(cameras: np.ndarray) -> tuple[float, float]:
    """Trembling of a camera path: mean angle in degrees by which the rotation's velocity changes per frame, and the translation's in mm.

    Args:
      cameras: [T, 4, 4], metres.
    """
    if len(cameras) < 3:
        return 0.0, 0.0
    rotation = cameras[:, :3, :3].astype(np.float64)
    step = np.einsum("tji,tjk->tik", rotation[:-1], rotation[1:])
    change = np.einsum("tji,tjk->tik", step[:-1], step[1:])
    # The angle from the antisymmetric part: the trace is blind below a hundredth of a degree.
    axis = np.stack([change[:, 2, 1] - change[:, 1, 2], change[:, 0, 2] - change[:, 2, 0], change[:, 1, 0] - change[:, 0, 1]], -1)
    angle = np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), np.trace(change, axis1=1, axis2=2) - 1.0))
    return float(angle.mean()), 1000.0 * jitter(cameras[:, None, :3, 3].astype(np.float64))


# ----------------------------------------------------------------------------------------------------
# Does the mouth follow the sound? Correlations of the mouth's opening with another mouth's, or with the loudness of speech.
#
# The true mouths of real speakers reach only 0.05 to 0.31 against loudness (four clips of 8 to 20 s): that figure shows that sound and
# mouth belong together at all and is no scale of quality. The comparison with the true mouth is.

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


# ----------------------------------------------------------------------------------------------------
# LPIPS of named pixels: how different two pictures look to a network.

NET = "alex"
"""The network that papers report."""

GRANULE = 32
"""Sides of a region's crop are multiples of this, so that few sizes are compiled."""

HOW_TO_GET_IT = "n/a (get the weights with `python scripts/fetch_lpips.py`)"


class Perceptual:
    """The distance, with weights in memory.

    Attributes:
      weights: parameters of `models.lpips`.
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weights = weights

    @classmethod
    def find(cls, source: str | os.PathLike | None = None) -> Perceptual | None:
        """With the weights of a file (or folder), or of the user's cache; None when neither is named nor there.

        Raises:
          InputError: a file is named and can't be read.
        """
        if source is None and find_lpips(NET) is None:
            return None
        return cls(load_lpips(NET, source))

    def distance(self, image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
        """LPIPS 0.1 (AlexNet) of one frame.

        Of a region: the smallest square around it with a side of a multiple of 32 pixels is compared, and outside the region it shows the
        truth in both pictures, so that nothing but the region's pixels can make a difference.

        Args:
          image, truth: uint8 [H, W, 3].
          mask: bool [H, W]; None is the whole frame.

        Returns:
          the distance, 0 for equal pictures; nan for an empty mask or a frame smaller than the network can see.
        """
        if mask is not None:
            if not mask.any():
                return float("nan")
            rows, columns = crop_around(mask)
            image = np.where(mask[..., None], image, truth)[rows, columns]
            truth = truth[rows, columns]
        if min(image.shape[:2]) < SMALLEST[NET]:
            return float("nan")
        a, b = (x[None].astype(np.float32) / 255.0 for x in (image, truth))
        return float(lpips(a, b, self.weights)[0])


def crop_around(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the smallest square around a region, its side a multiple of `GRANULE` (or the frame's), inside the frame."""
    spans = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    longest = max(span[-1] - span[0] + 1 for span in spans)
    slices = []
    for span, length in zip(spans, mask.shape, strict=True):
        side = min(-(-longest // GRANULE) * GRANULE, length)
        start = int(np.clip((span[0] + span[-1] + 1 - side) // 2, 0, length - side))
        slices.append(slice(start, start + side))
    return slices[0], slices[1]
