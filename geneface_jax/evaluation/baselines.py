"""What a renderer must beat: the training frame whose landmarks are nearest, and the mean training image."""

from __future__ import annotations

import numpy as np


def nearest_training_frames(landmarks: np.ndarray, train: range, queries: range) -> np.ndarray:
    """For each query frame, the training frame nearest in all landmark coordinates (Euclidean over the 3 x 478 numbers).

    Args:
      landmarks: [T, 478, 3] pixels.
      train, queries: frame numbers.

    Returns:
      [len(queries)] int64 frame numbers in `train`.
    """
    flat = landmarks.reshape(len(landmarks), -1).astype(np.float64)
    known = flat[train.start : train.stop]
    distances = [((known - flat[query]) ** 2).sum(1) for query in queries]
    return np.array([train.start + int(np.argmin(row)) for row in distances], np.int64)


class MeanImage:
    """Running mean of pictures, so that a long video need not be in memory."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._count = 0

    def add(self, image: np.ndarray) -> None:
        """Adds one uint8 [H, W, 3]."""
        self._sum = image.astype(np.float64) if self._sum is None else self._sum + image
        self._count += 1

    def result(self) -> np.ndarray:
        """uint8 [H, W, 3], rounded."""
        if self._sum is None:
            raise ValueError("the mean of no pictures")
        return np.clip(np.rint(self._sum / self._count), 0, 255).astype(np.uint8)
