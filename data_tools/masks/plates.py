"""Background plate (each pixel from the frame in which the person is farthest away) and torso images with a painted neck."""

import cv2
import numpy as np

MIN_DISTANCE = 10.0 / 512.0
"""A pixel closer than this (over the picture's side) to the person in all frames counts as never visible (GeneFace++'s 10 px)."""


class BackgroundPlate:
    """Accumulates the background of size x size frames; only two pictures are in memory."""

    def __init__(self, size: int) -> None:
        self._color = np.zeros((size, size, 3), np.uint8)
        self._distance = np.zeros((size, size), np.float32)

    def add(self, frame: np.ndarray, person: np.ndarray) -> None:
        """Adds a frame uint8 [H, W, 3] with its person mask [H, W] float 0..1."""
        size = self._distance.shape[0]
        free = (person < 0.1).astype(np.uint8)
        if free.all():
            distance = np.full_like(self._distance, size)
        else:
            distance = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            # Squared distances between pixels are integers. Rounding to them makes ties between frames exact on every machine.
            distance = np.sqrt(np.rint(distance.astype(np.float64) ** 2)).astype(np.float32)
        self.merge(frame, distance)

    def merge(self, color: np.ndarray, distance: np.ndarray) -> None:
        """Merges another plate's `state`."""
        better = distance > self._distance
        self._color[better] = color[better]
        self._distance[better] = distance[better]

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Colors uint8 [H, W, 3] so far, and their distances from the person [H, W] float32 pixels (0: never visible)."""
        return self._color, self._distance

    def finish(self) -> np.ndarray:
        """The plate, uint8 [H, W, 3]. Pixels never visible get the color of the nearest visible one, blurred more the deeper the hole."""
        size = self._distance.shape[0]
        threshold = min(MIN_DISTANCE * size, float(self._distance.max()) * 0.5)
        unseen = self._distance <= threshold
        if not unseen.any() or unseen.all():
            return self._color.copy()
        depth, labels = cv2.distanceTransformWithLabels(
            unseen.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.zeros((labels.max() + 1, 3), np.uint8)
        nearest[labels[~unseen]] = self._color[~unseen]
        filled = np.where(unseen[..., None], nearest[labels], self._color)
        blurred = cv2.GaussianBlur(filled, (0, 0), 0.03 * size)
        weight = np.clip(depth / (0.06 * size), 0.0, 1.0)[..., None]
        return np.where(unseen[..., None], (1 - weight) * filled + weight * blurred, filled).round().astype(np.uint8)


# -------- Torso images: the head is removed and the neck extended upwards, so that no hole opens when the head moves

NECK_LENGTH = 53.0 / 512.0
"""Length of the painted neck above the jaw's border, over the picture's side (GeneFace)."""

CLOTH_LENGTH = 9.0 / 512.0
"""The same for shoulders and hair beside the neck."""

FADE = 0.98
"""Darkening of the paint per pixel (at 512 px) upwards (GeneFace): the painted neck is in the chin's shadow."""


def torso_image(frame: np.ndarray, person: np.ndarray, above_jaw: np.ndarray, neck: tuple[float, float]) -> np.ndarray:
    """RGBA torso of one frame.

    Args:
      frame: uint8 [H, W, 3].
      person: [H, W] float 0..1, soft person mask.
      above_jaw: [H, W] float 0..1, soft indicator of the head side of the jaw.
      neck: first and last column under the jaw.

    Returns:
      uint8 [H, W, 4]; color is 0 where alpha is 0.
    """
    height, width = person.shape
    alpha = np.where(above_jaw < 0.5, person, 0.0)
    solid = (person > 0.5) & (above_jaw < 0.05)
    border = solid[1:] & (person[:-1] > 0.5) & (above_jaw[:-1] >= 0.05)
    has_border = border.any(0)
    rgba = np.dstack([frame, np.round(255.0 * alpha).astype(np.uint8)])
    if has_border.any():
        band, color, painted = _paint_up(frame, alpha, solid, border, has_border, neck)
        rgba[band, :, :3] = np.round(color)
        rgba[band, :, 3] = np.round(255.0 * painted)
    return cv2.bitwise_and(rgba, rgba, mask=rgba[..., 3])


def _paint_up(frame, alpha, solid, border, has_border, neck):
    """Extends each column that meets the head upwards with its own color, smoothed across columns.

    Returns:
      The rows that change (a slice), their color [R, W, 3] and their alpha [R, W], float.
    """
    height, width = alpha.shape
    columns = np.arange(width)
    start = np.where(has_border, border.argmax(0) + 1, 0)
    under_jaw = has_border & (columns >= neck[0]) & (columns <= neck[1])
    length = np.where(under_jaw, NECK_LENGTH, CLOTH_LENGTH) * height
    length = np.where(has_border, cv2.GaussianBlur(length[None], (0, 0), 0.01 * height)[0], 0.0)
    # The color to extend: a few rows below the border, outside the jaw's soft edge, averaged across neighboring columns.
    rows = np.clip(start + np.arange(2, 8)[:, None] * height // 512 + 1, 0, height - 1)
    weight = solid[rows, columns] * has_border + 1e-6
    sample = (frame[rows, columns] * weight[..., None]).sum(0)
    total = weight.sum(0)
    spread = (0.012 * height, 1e-3)
    sample = cv2.GaussianBlur(sample[None].astype(np.float32), (0, 0), spread[0])[0]
    total = cv2.GaussianBlur(total[None].astype(np.float32), (0, 0), spread[0])[0]
    base = sample / total.reshape(-1, 1)

    # Rows from the top of the paint to the bottom of the soft edge.
    used = np.flatnonzero(has_border)
    top = max(int(np.floor((start - length)[used].min())) - 1, 0)
    bottom = min(int(np.ceil(start[used].max() + 4 * height / 512.0)) + 1, height)
    rows = np.arange(top, bottom)[:, None]
    above = start - rows
    painted = has_border & (above >= 0) & (above <= length)
    shade = FADE ** (np.clip(above, 0, None) * 512.0 / height)
    paint = base * shade[..., None]
    # Within the jaw's soft edge the frame's color is partly face: blend it into the paint.
    edge = np.clip((start + 3 * height / 512.0 - rows) / (4 * height / 512.0), 0.0, 1.0) * has_border
    mix = np.where(above >= 0, 1.0, edge)[..., None] * (painted | (edge > 0))[..., None]
    band = slice(top, bottom)
    fade_out = np.clip((length - above) / (3.0 * height / 512.0) + 1.0, 0.0, 1.0)
    return band, frame[band] * (1 - mix) + paint * mix, np.where(painted, np.maximum(alpha[band], fade_out), alpha[band])
