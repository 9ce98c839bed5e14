"""Drawing 68-point sequences, so that speech-to-motion can be judged by eye before any face is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# (first point, last point, closed) of each line of the 68-point convention; the lips are drawn apart, filled.
_LINES = ((0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False), (36, 41, True), (42, 47, True))
_OUTER_LIPS, _INNER_LIPS = slice(48, 60), slice(60, 68)

_PAPER, _INK, _LIP, _MOUTH = (250, 249, 246), (38, 50, 66), (196, 92, 92), (52, 16, 20)
_SUPERSAMPLING = 3
_FACE_SHARE = 0.72
"""Height of the mean face in the panel."""


def project(landmarks: np.ndarray, mean_face: np.ndarray, size: int) -> np.ndarray:
    """Orthographic view from the front: canonical landmarks (any unit) -> pixels.

    The view is fixed by the mean face (its height fills 72 % of the panel, its box is centred), so that nothing swims.

    Args:
      landmarks: [..., 68, 3], x right, y up.
      mean_face: [68, 3] in the same unit.
      size: panel height and width in pixels.

    Returns:
      [..., 68, 2] float32, x right, y down.
    """
    low, high = mean_face[:, :2].min(0), mean_face[:, :2].max(0)
    scale = _FACE_SHARE * size / (high[1] - low[1])
    centerd = (landmarks[..., :2] - (low + high) / 2) * scale
    return (centerd * np.array([1.0, -1.0]) + size / 2).astype(np.float32)


def draw_face(points: np.ndarray, size: int, label: str = "") -> np.ndarray:
    """Draws one face: clean lines for jaw, brows, nose and eyes; lips filled, the open mouth dark.

    Args:
      points: [68, 2] pixels.
      size: panel height and width.
      label: written in the lower left corner.

    Returns:
      uint8 [size, size, 3].
    """
    s = _SUPERSAMPLING
    canvas = Image.new("RGB", (size * s, size * s), _PAPER)
    pen = ImageDraw.Draw(canvas)
    scaled = [(float(x) * s, float(y) * s) for x, y in points]
    width = max(1, round(size * s / 220))
    pen.polygon(scaled[_OUTER_LIPS], fill=_LIP)
    pen.polygon(scaled[_INNER_LIPS], fill=_MOUTH)
    for first, last, closed in _LINES:
        line = scaled[first : last + 1]
        pen.line(line + line[:1] if closed else line, fill=_INK, width=width, joint="curve")
    for lips in (_OUTER_LIPS, _INNER_LIPS):
        pen.line(scaled[lips] + scaled[lips][:1], fill=_MOUTH, width=max(1, width // 2), joint="curve")
    if label:
        font = ImageFont.load_default(size=size * s / 22)
        pen.text((size * s * 0.03, size * s * 0.97), label, fill=_INK, font=font, anchor="ls")
    return np.asarray(canvas.reduce(s))


def landmark_frames(motions: Sequence[np.ndarray], labels: Sequence[str], mean_face: np.ndarray, size: int = 512) -> Iterator[np.ndarray]:
    """Yields frames with one panel per sequence, side by side; stops with the shortest sequence.

    Args:
      motions: each [T, 68, 3] or [T, 204] motion (10 x displacement from the mean face in decimetres).
      labels: one per sequence.
      mean_face: [68, 3] decimetres.
      size: panel height and width in pixels.

    Yields:
      uint8 [size, size * len(motions), 3].
    """
    tracks = [project(motion.reshape(-1, 68, 3) / 10.0 + mean_face, mean_face, size) for motion in motions]
    for frame in zip(*tracks, strict=False):
        yield np.concatenate([draw_face(points, size, label) for points, label in zip(frame, labels, strict=True)], axis=1)
