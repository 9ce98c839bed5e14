"""The clean background: every pixel from the frame in which the person was farthest from it."""

from __future__ import annotations

import cv2
import numpy as np

MIN_DISTANCE = 10.0 / 512.0
"""A pixel that is nearer than this (over the picture's side) to the person in every frame was never really seen (GeneFace++'s 10 px)."""


class BackgroundPlate:
    """Gathers the background frame by frame; only two pictures are held.

    Args:
      size: pixels of the square frames.
    """

    def __init__(self, size: int) -> None:
        self._colour = np.zeros((size, size, 3), np.uint8)
        self._distance = np.zeros((size, size), np.float32)

    def add(self, frame: np.ndarray, person: np.ndarray) -> None:
        """Takes in one frame: uint8 [H, W, 3], and its person mask: [H, W] float 0..1."""
        size = self._distance.shape[0]
        free = (person < 0.1).astype(np.uint8)
        if free.all():
            distance = np.full_like(self._distance, size)
        else:
            distance = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            # Squares of distances between pixels are whole numbers. Said so, two frames equally far from the person are a tie on every
            # machine, whatever its square root rounds to.
            distance = np.sqrt(np.rint(distance.astype(np.float64) ** 2)).astype(np.float32)
        self.merge(frame, distance)

    def merge(self, colour: np.ndarray, distance: np.ndarray) -> None:
        """Takes in colours uint8 [H, W, 3] and how far from the person each was seen, [H, W] float32: another plate's `state`."""
        better = distance > self._distance
        self._colour[better] = colour[better]
        self._distance[better] = distance[better]

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Colours uint8 [H, W, 3] gathered so far, and their distances from the person, [H, W] float32 pixels (0: never seen)."""
        return self._colour, self._distance

    def finish(self) -> np.ndarray:
        """The plate, uint8 [H, W, 3]. Pixels never seen get the nearest seen pixel's colour, blurred more the deeper the hole."""
        size = self._distance.shape[0]
        threshold = min(MIN_DISTANCE * size, float(self._distance.max()) * 0.5)
        unseen = self._distance <= threshold
        if not unseen.any() or unseen.all():
            return self._colour.copy()
        depth, labels = cv2.distanceTransformWithLabels(
            unseen.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.zeros((labels.max() + 1, 3), np.uint8)
        nearest[labels[~unseen]] = self._colour[~unseen]
        filled = np.where(unseen[..., None], nearest[labels], self._colour)
        blurred = cv2.GaussianBlur(filled, (0, 0), 0.03 * size)
        weight = np.clip(depth / (0.06 * size), 0.0, 1.0)[..., None]
        return np.where(unseen[..., None], (1 - weight) * filled + weight * blurred, filled).round().astype(np.uint8)
