"""Drawing 68-point landmark sequences, to inspect speech-to-motion results before any face is rendered."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geneface_jax.typing import Array, Float, UInt8

# (first point, last point, closed) of each line of the 68-point convention; the lips are drawn separately, filled.
_LINES = ((0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False), (36, 41, True), (42, 47, True))
_OUTER_LIPS, _INNER_LIPS = slice(48, 60), slice(60, 68)

_BACKGROUND, _LINE, _LIP, _MOUTH = (250, 249, 246), (38, 50, 66), (196, 92, 92), (52, 16, 20)
_SUPERSAMPLING = 3
_FACE_SHARE = 0.72
"""Height of the mean face in the panel."""


def project(landmarks: Float[Array, "*batch 68 3"], mean_face: Float[Array, "68 3"], size: int) -> Float[np.ndarray, "*batch 68 2"]:
    """Orthographic front view in float32 pixels (x right, y down) of landmarks (x right, y up, unit as the mean face's).

    The mean face fixes the view: its height is 72 % of the panel's `size` and its bounding box is centered.
    """
    low, high = mean_face[:, :2].min(0), mean_face[:, :2].max(0)
    scale = _FACE_SHARE * size / (high[1] - low[1])
    centered = (landmarks[..., :2] - (low + high) / 2) * scale
    return np.asarray(centered * np.array([1.0, -1.0]) + size / 2, np.float32)


def draw_face(points: Float[np.ndarray, "68 2"], size: int, label: str = "") -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Draws one face: lines for jaw, brows, nose and eyes; lips filled, the open mouth dark.

    Args:
      points: pixels.
      size: panel height and width.
      label: written in the lower left corner.
    """
    s = _SUPERSAMPLING
    canvas = Image.new("RGB", (size * s, size * s), _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    scaled = [(float(x) * s, float(y) * s) for x, y in points]
    width = max(1, round(size * s / 220))
    pen.polygon(scaled[_OUTER_LIPS], fill=_LIP)
    pen.polygon(scaled[_INNER_LIPS], fill=_MOUTH)
    for first, last, closed in _LINES:
        line = scaled[first : last + 1]
        pen.line(line + line[:1] if closed else line, fill=_LINE, width=width, joint="curve")
    for lips in (_OUTER_LIPS, _INNER_LIPS):
        pen.line(scaled[lips] + scaled[lips][:1], fill=_MOUTH, width=max(1, width // 2), joint="curve")
    if label:
        font = ImageFont.load_default(size=size * s / 22)
        pen.text((size * s * 0.03, size * s * 0.97), label, fill=_LINE, font=font, anchor="ls")
    return np.asarray(canvas.reduce(s))


def landmark_frames(
    motions: Sequence[Float[Array, "_ ..."]], labels: Sequence[str], mean_face: Float[Array, "68 3"], size: int = 512
) -> Iterator[np.ndarray]:
    """Yields uint8 frames with one panel per sequence, side by side; ends with the shortest sequence.

    Args:
      motions: each [T, 68, 3] or [T, 204] (10 x displacement from the mean face in decimeters).
      labels: one per sequence.
      mean_face: decimeters.
      size: panel height and width in pixels.
    """
    tracks = [project(motion.reshape(-1, 68, 3) / 10.0 + mean_face, mean_face, size) for motion in motions]
    for frame in zip(*tracks, strict=False):
        yield np.concatenate([draw_face(points, size, label) for points, label in zip(frame, labels, strict=True)], axis=1)
