"""What the head sees of the landmarks: normalised motion in windows. One meaning for training, evaluation and inference."""

from __future__ import annotations

import numpy as np

STD_FLOOR = 0.02
"""Smallest standard deviation motion is divided by (a fiftieth of a millimetre on a face): points that hardly move must not blow up."""


def normalise_motion(motion: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(motion - mean) / std, flattened to [T, 204]; motion is [T, 68, 3] or [T, 204], mean and std are [68, 3]."""
    flat = np.asarray(motion, np.float32).reshape(len(motion), -1)
    return (flat - mean.reshape(1, -1)) / np.maximum(std.reshape(1, -1), STD_FLOOR)


def windows(x: np.ndarray, size: int, inner: int = 1) -> np.ndarray:
    """Frames i - size // 2 ... around each frame, the first and last frame repeated at the ends.

    The original pads with zeros in training and with edges at inference; one rule for both removes that gap (docs/deviations.md).

    Args:
      x: [T, C].
      size: S, frames that the attention weighs.
      inner: W, frames that each of them is a window of (`condition_frames`).

    Returns:
      [T, S, C], or [T, S, W, C] for W > 1.
    """
    if inner > 1:
        x = windows(x, inner)
    index = np.arange(len(x))[:, None] + np.arange(size) - size // 2
    return x[np.clip(index, 0, len(x) - 1)]
