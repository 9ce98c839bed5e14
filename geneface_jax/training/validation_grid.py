"""What training judges itself by: a few held-out frames, always the same, and how they are shown."""

from __future__ import annotations

import numpy as np

from geneface_jax.data.subject import Subject


def heldout_frames(subject: Subject, count: int) -> np.ndarray:
    """Up to `count` held-out frame numbers, evenly spread; empty when the dataset holds none out."""
    chosen = np.unique(np.linspace(subject.n_train, subject.n_frames - 1, count).astype(int))
    return chosen[(chosen >= subject.n_train) & (chosen < subject.n_frames)]


def comparison(truth: np.ndarray, ours: np.ndarray, depth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """truth | ours | difference (x4) | depth (near is bright), side by side.

    Args:
      truth, ours: [H, W, 3] in [0, 1].
      depth: [H, W] along the ray, weighted by opacity; alpha: [H, W].

    Returns:
      uint8 [H, 4 W, 3].
    """
    solid = alpha > 0.5
    along = depth / np.maximum(alpha, 1e-3)
    near, far = np.percentile(along[solid], [1, 99]) if solid.any() else (0.0, 1.0)
    bright = np.where(solid, 1.0 - np.clip((along - near) / max(far - near, 1e-3), 0, 1), 0.0)
    panels = [truth, ours, np.clip(np.abs(ours - truth) * 4.0, 0, 1), np.repeat(bright[..., None], 3, axis=-1)]
    return np.round(np.concatenate(panels, axis=1) * 255.0).astype(np.uint8)


def psnr_in_box(ours: np.ndarray, truth: np.ndarray, box: np.ndarray) -> float:
    """PSNR in dB of [H, W, 3] pictures in [0, 1] inside a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    error = float(np.mean((ours[y0:y1, x0:x1] - truth[y0:y1, x0:x1]) ** 2))
    return float(-10.0 * np.log10(max(error, 1e-10)))
