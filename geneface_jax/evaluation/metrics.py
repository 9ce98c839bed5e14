"""Metrics: PSNR and SSIM on masked pixels, LPIPS, landmark distance and jitter, sync correlations."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, signal
from scipy.spatial import ConvexHull, QhullError
from skimage.metrics import structural_similarity

from data_tools.audio.sound import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.landmarks68 import LANDMARKS_68, MOUTH, NOSE
from geneface_jax.data.motion import pearson
from geneface_jax.io.weights import find_lpips, load_lpips
from geneface_jax.models.lpips import SMALLEST, lpips
from geneface_jax.typing import Bool, Float, Num, UInt8

# -------- PSNR and SSIM of 8-bit RGB pictures, whole or masked


def psnr(image: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None) -> float:
    """Peak signal-to-noise ratio in dB of one frame's masked pixels over three channels; inf for equal pixels, nan for an empty mask.

    A clip's PSNR is the mean of its frames' values (not the PSNR of the mean error).
    """
    error = (image.astype(np.float32) - truth.astype(np.float32)) ** 2
    values = error if mask is None else error[mask]
    if values.size == 0:
        return float("nan")
    mse = float(values.mean(dtype=np.float64))
    return float("inf") if mse == 0 else float(10.0 * np.log10(255.0**2 / mse))


def difference(image: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"], gain: int = 4) -> UInt8[np.ndarray, "H W 3"]:
    """Absolute difference of two pictures times `gain`; black where they are equal."""
    return np.clip(np.abs(image.astype(np.int16) - truth) * gain, 0, 255).astype(np.uint8)


def ssim_map(image: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """Structural similarity per pixel (Wang et al. 2004): scikit-image, Gaussian window (sigma 1.5), data range 255, channel mean.

    Pictures have at least 11 x 11 pixels. A region's SSIM is the mean of this map over its pixels; the map is always computed on the
    whole frame.
    """
    _, similarity = structural_similarity(
        image, truth, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return similarity.mean(-1)


# -------- Masks of the evaluated regions: face hull, head, mouth, neck band

HULL_DILATION = 15
"""Side in pixels, at 256x256, of the square that widens the face hull; scaled with the size."""

NECK_BAND = 16
"""Width in pixels, at 256x256, of the band around the border between head and torso; scaled with the size."""

MOUTH_SCALE = 1.5
"""Sides of the mouth region over those of the lip box."""


def face_hull_mask(landmarks: Num[np.ndarray, "N D"], size: int) -> Bool[np.ndarray, "H W"]:
    """Convex hull of a frame's landmarks, dilated by a 15x15 square at 256x256; all False if the points span no area.

    Landmarks are pixels at `size` (H = W), x and y first; pixel (0, 0) covers [0, 1) x [0, 1).
    """
    points = np.asarray(landmarks, np.float64)[:, :2]
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return np.zeros((size, size), bool)
    canvas = Image.new("1", (size, size))
    # PIL's coordinates refer to pixel centers, the landmarks' to pixel corners: half a pixel apart.
    ImageDraw.Draw(canvas).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
    side = 2 * round((HULL_DILATION // 2) * size / 256) + 1
    return ndimage.maximum_filter(np.asarray(canvas, np.uint8), size=side, mode="constant") > 0


def hard_head_mask(mask: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Soft head mask (255 = head), thresholded at one half."""
    return mask >= 128


def neck_band_mask(head_mask: UInt8[np.ndarray, "H W"], torso_alpha: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Band 16 pixels wide, at 256x256, along the border of head and torso in the true frame, where seams and double chins appear.

    A pixel belongs to it when both the head (255 in its mask) and the visible torso are at most 8 pixels away. The torso picture's neck
    continues behind the head: what is visible is its opacity minus the head. All False if head and torso do not meet.
    """
    on_head = hard_head_mask(head_mask)
    visible_torso = (torso_alpha >= 128) & ~on_head
    if not on_head.any() or not visible_torso.any():
        return np.zeros_like(on_head)
    reach = NECK_BAND / 2 * on_head.shape[0] / 256
    return (ndimage.distance_transform_edt(~on_head) <= reach) & (ndimage.distance_transform_edt(~visible_torso) <= reach)


def mouth_mask(lip_box: Num[np.ndarray, " 4"], size: int, source_size: int | None = None) -> Bool[np.ndarray, "H W"]:
    """The lip box scaled by 1.5 about its center.

    Args:
      lip_box: x0, y0, x1, y1 in pixels at `source_size`, x1 and y1 exclusive.
      size: H = W of the result.
      source_size: size the box was measured at; `size` when None.
    """
    box = np.asarray(lip_box, np.float64) * (size / (source_size or size))
    center, half = (box[:2] + box[2:]) / 2, MOUTH_SCALE * (box[2:] - box[:2]) / 2
    x0, y0 = np.clip(np.rint(center - half), 0, size).astype(int)
    x1, y1 = np.clip(np.rint(center + half), 0, size).astype(int)
    out = np.zeros((size, size), bool)
    out[y0:y1, x0:x1] = True
    return out


# -------- Landmark metrics (68-point convention): landmark distance and jitter


def from_mediapipe(landmarks: Num[np.ndarray, "*batch 478 D"]) -> Num[np.ndarray, "*batch 68 D"]:
    """Selects the 68-point convention from MediaPipe's 478 points."""
    return landmarks[..., LANDMARKS_68, :]


def lmd(a: Float[np.ndarray, "T 68 D"], b: Float[np.ndarray, "T 68 D"]) -> float:
    """Landmark distance of two videos in pixels (x and y only): mean over the mouth's points 48 to 67, faces aligned at the nose.

    Alignment subtracts each frame's mean of the nose points 27 to 35, so that a shift of the head does not count.
    """
    aligned = [x[:, MOUTH, :2] - x[:, NOSE, :2].mean(1, keepdims=True) for x in (a, b)]
    return float(np.linalg.norm(aligned[0] - aligned[1], axis=-1).mean())


def jitter(track: Float[np.ndarray, "T ..."]) -> float:
    """Mean absolute second difference over time, in the unit of the track.

    With three axes or more the last one holds coordinates, and the second difference of a point is its Euclidean norm.
    """
    if len(track) < 3:
        return 0.0
    second = track[2:] - 2.0 * track[1:-1] + track[:-2]
    return float(np.abs(second).mean() if second.ndim < 3 else np.linalg.norm(second, axis=-1).mean())


def pose_jitter(cameras: Float[np.ndarray, "T 4 4"]) -> tuple[float, float]:
    """Jitter of a camera path (in meters): mean change per frame of the rotation's velocity in degrees, and of the translation's in mm."""
    if len(cameras) < 3:
        return 0.0, 0.0
    rotation = cameras[:, :3, :3].astype(np.float64)
    step = np.einsum("tji,tjk->tik", rotation[:-1], rotation[1:])
    change = np.einsum("tji,tjk->tik", step[:-1], step[1:])
    # The angle comes from the antisymmetric part: the trace alone does not resolve angles below a hundredth of a degree.
    axis = np.stack([change[:, 2, 1] - change[:, 1, 2], change[:, 0, 2] - change[:, 2, 0], change[:, 1, 0] - change[:, 0, 1]], -1)
    angle = np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), np.trace(change, axis1=1, axis2=2) - 1.0))
    return float(angle.mean()), 1000.0 * jitter(cameras[:, None, :3, 3].astype(np.float64))


# -------- Audio-visual sync: correlation of the mouth's opening with another mouth's, or with the loudness of speech
#
# The true mouths of real speakers reach only 0.05 to 0.31 against loudness (four clips of 8 to 20 s): that figure detects audio that does
# not belong to the video and does not rank quality. The correlation with the true mouth does.

MAX_LAG = 5
"""Frames (0.2 s) searched to each side for the best lag."""

SPEECH_BAND = (300.0, 3000.0)
"""Hz: where opening the mouth makes speech louder. The voice's pitch lies below, the noise of fricatives above."""

LOUDNESS_EXPONENT = 0.3
"""Loudness grows with this power of intensity (Stevens)."""


@dataclasses.dataclass(frozen=True)
class EnvelopeCorrelation:
    """Correlation of mouth opening with the audio's envelope.

    Attributes:
      correlation: Pearson, at zero lag.
      best, best_lag: the largest within +-5 frames and its lag (positive: the mouth is late).
      shuffled: mean correlation with the envelope's one-second blocks shuffled: the baseline without any relation.
      shuffled_95: 95th percentile over the shuffles.
    """

    correlation: float
    best: float
    best_lag: int
    shuffled: float
    shuffled_95: float


def best_lag(
    a: Float[np.ndarray, " T"], b: Float[np.ndarray, " T"], valid: Bool[np.ndarray, " T"] | None = None, max_lag: int = MAX_LAG
) -> tuple[float, int]:
    """Largest Pearson correlation over lags of -max_lag .. max_lag frames, and its lag; positive when `a` comes later than `b`.

    nan and 0 when no lag gives a correlation.
    """
    valid = np.ones(len(a), bool) if valid is None else valid
    max_lag = min(max_lag, max(len(a) - 3, 0))
    correlations = []
    for lag in range(-max_lag, max_lag + 1):
        late, early = slice(max(lag, 0), len(a) + min(lag, 0)), slice(max(-lag, 0), len(a) - max(lag, 0))
        correlations.append((pearson(a[late], b[early], valid[late] & valid[early]), lag))
    finite = [(r, lag) for r, lag in correlations if np.isfinite(r)]
    return max(finite, key=lambda pair: (pair[0], -abs(pair[1]))) if finite else (float("nan"), 0)


def envelope(samples: Num[np.ndarray, " N"], n_frames: int) -> Float[np.ndarray, " T"]:
    """Loudness of speech per video frame, 0 .. 1: power between 300 and 3000 Hz to the 0.3, smoothed by (1, 2, 1) / 4, largest value 1.

    Samples are at 16 kHz, padded with silence or cut to `n_frames`.
    """
    wanted = n_frames * SAMPLES_PER_FRAME
    padded = np.pad(np.asarray(samples, np.float64)[:wanted], (0, max(0, wanted - len(samples))))
    speech = signal.sosfiltfilt(signal.butter(2, SPEECH_BAND, "bandpass", fs=SAMPLE_RATE, output="sos"), padded)
    loudness = (speech.reshape(n_frames, SAMPLES_PER_FRAME) ** 2).mean(1) ** LOUDNESS_EXPONENT
    smooth = np.convolve(np.pad(loudness, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    return smooth / max(smooth.max(), 1e-12)


def envelope_correlation(
    opening: Float[np.ndarray, " T"],
    samples: Num[np.ndarray, " N"],
    valid: Bool[np.ndarray, " T"] | None = None,
    *,
    shuffles: int = 200,
    seed: int = 0,
) -> EnvelopeCorrelation:
    """Correlates mouth opening (25 frames a second) with the envelope of the sound (16 kHz), and with shuffled envelopes as a control.

    Blocks of one second are shuffled, which keep the rhythm of speech; shuffling single frames would make any control look good.
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


# -------- LPIPS, whole or masked

LPIPS_NETWORK = "alex"
"""The backbone that papers report."""

CROP_MULTIPLE = 32
"""Sides of a region's crop are multiples of this many pixels, which bounds the number of compiled shapes."""

LPIPS_UNAVAILABLE = "n/a (get the weights with `python scripts/fetch_lpips.py`)"


class Perceptual:
    """LPIPS distance with weights in memory.

    Attributes:
      weights: parameters of `models.lpips`.
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weights = weights

    @classmethod
    def find(cls, source: str | os.PathLike | None = None) -> "Perceptual | None":
        """Loads the weights of a file or folder, or of the user's cache; None if no source is named and the cache is empty.

        Raises:
          InputError: the named file can't be read.
        """
        if source is None and find_lpips(LPIPS_NETWORK) is None:
            return None
        return cls(load_lpips(LPIPS_NETWORK, source))

    def distance(
        self, image: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None
    ) -> float:
        """LPIPS 0.1 (AlexNet) of one frame.

        With a mask, only the smallest square around the region is compared (side a multiple of 32 pixels), and both pictures show the
        truth outside the region, so that only the region's pixels differ.

        Returns:
          the distance, 0 for equal pictures; nan for an empty mask or a frame smaller than the network's smallest input.
        """
        if mask is not None:
            if not mask.any():
                return float("nan")
            rows, columns = crop_around(mask)
            image = np.where(mask[..., None], image, truth)[rows, columns]
            truth = truth[rows, columns]
        if min(image.shape[:2]) < SMALLEST[LPIPS_NETWORK]:
            return float("nan")
        a, b = (x[None].astype(np.float32) / 255.0 for x in (image, truth))
        # A reported figure must not depend on the device; as a loss the network may round its factors.
        with jax.default_matmul_precision("highest"):
            return float(lpips(a, b, self.weights)[0])


def crop_around(mask: Bool[np.ndarray, "H W"]) -> tuple[slice, slice]:
    """Rows and columns of the smallest square around a region inside the frame, with a side of a multiple of `CROP_MULTIPLE`."""
    spans = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    longest = max(span[-1] - span[0] + 1 for span in spans)
    slices = []
    for span, length in zip(spans, mask.shape, strict=True):
        side = min(-(-longest // CROP_MULTIPLE) * CROP_MULTIPLE, length)
        start = int(np.clip((span[0] + span[-1] + 1 - side) // 2, 0, length - side))
        slices.append(slice(start, start + side))
    return slices[0], slices[1]
