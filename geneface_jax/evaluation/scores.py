"""Collecting per-frame figures and averaging them over a clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_tools.landmarks68 import eye_openness
from geneface_jax.data.motion import count_blinks, mouth_opening, pearson
from geneface_jax.evaluation import landmarks as lm
from geneface_jax.evaluation.detector import LandmarkTrack
from geneface_jax.evaluation.perceptual import Perceptual
from geneface_jax.evaluation.pixels import psnr, ssim_map
from geneface_jax.evaluation.sync import best_lag


class PixelScores:
    """PSNR, SSIM and LPIPS per region; a clip's figure is the mean over its frames.

    Args:
      perceptual: LPIPS; None leaves it out.
    """

    def __init__(self, perceptual: Perceptual | None = None) -> None:
        self._perceptual = perceptual
        self._frames: dict[str, list[tuple[float, ...]]] = {}

    def add(self, image: np.ndarray, truth: np.ndarray, regions: Mapping[str, np.ndarray | None]) -> None:
        """Scores one frame.

        Args:
          image, truth: uint8 [H, W, 3].
          regions: name -> bool [H, W], or None for the whole frame. A frame whose region is empty does not count for it.
        """
        similarity = ssim_map(image, truth)
        for name, mask in regions.items():
            count = image.shape[0] * image.shape[1] if mask is None else int(mask.sum())
            if count:
                alike = float((similarity if mask is None else similarity[mask]).mean())
                looks = () if self._perceptual is None else (self._perceptual.distance(image, truth, mask),)
                self._frames.setdefault(name, []).append((psnr(image, truth, mask), alike, count, *looks))

    def summary(self) -> dict[str, dict[str, float]]:
        """Region -> {"psnr" (dB), "ssim", "pixels" (mean number per frame), "frames"}, and "lpips" where it was measured."""
        out = {}
        for name, rows in self._frames.items():
            means = np.mean(np.array(rows, np.float64), axis=0)
            out[name] = {"psnr": float(means[0]), "ssim": float(means[1]), "pixels": float(means[2]), "frames": len(rows)}
            if self._perceptual is not None:
                out[name]["lpips"] = float(means[3])
        return out


def landmark_summary(track: LandmarkTrack, truth: LandmarkTrack) -> dict[str, Any]:
    """Figures over the frames where MediaPipe finds both faces.

    Returns:
      `lmd` (px), `mouth_correlation` at zero lag, `mouth_best_correlation` and `mouth_best_lag` (frames), `eye_correlation` of the eye
      openness at zero lag, `blinks` and `truth_blinks`, `jitter` and `truth_jitter` (px, 68 points), `frames` used and
      `frames_without_face` of the first video.
    """
    both = track.found & truth.found
    a, b = track.landmarks, truth.landmarks
    opening, true_opening = mouth_opening(a[..., :2]), mouth_opening(b[..., :2])
    best, lag = best_lag(opening, true_opening, both)
    eyes, true_eyes = eye_openness(a[both][..., :2]), eye_openness(b[both][..., :2])
    return {
        "lmd": lm.lmd(a[both], b[both]) if both.any() else float("nan"),
        "mouth_correlation": pearson(opening, true_opening, both),
        "mouth_best_correlation": best,
        "mouth_best_lag": lag,
        "eye_correlation": pearson(eyes, true_eyes),
        "blinks": count_blinks(eyes),
        "truth_blinks": count_blinks(true_eyes),
        "jitter": lm.jitter(a[both][..., :2]),
        "truth_jitter": lm.jitter(b[both][..., :2]),
        "frames": int(both.sum()),
        "frames_without_face": int((~track.found).sum()),
    }
