"""The parts of a picture - face, hair, neck, clothes, background - to look at and to measure.

The dataset itself needs head and torso alone. Where no segmenter told hair from skin, geometry and the face's own colour do: the face is
what lies inside the face oval, hair the rest of the head, and neck what continues the skin below the jaw.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.face.geometry import CHIN, FACE_OVAL, FOREHEAD

PARTS = ("background", "face", "hair", "neck", "clothes")
"""Number of a part = its place here."""

COLOURS = np.array([[235, 235, 235], [240, 180, 140], [90, 60, 40], [225, 120, 90], [60, 110, 190]], np.uint8)
"""RGB of each part in pictures of the parts."""

NECK_REACH = 0.6
"""How far below the chin skin counts as neck, in face heights."""

SKIN_DISTANCE = 4.0
"""Standard deviations from the face's mean colour within which a pixel is skin."""


def label_parts(
    frame: np.ndarray, landmarks: np.ndarray, head: np.ndarray, torso: np.ndarray, layers: np.ndarray | None = None
) -> np.ndarray:
    """Names every pixel's part.

    Args:
      frame: uint8 [H, W, 3].
      landmarks: [478, 2+] pixels.
      head, torso: [H, W] float 0..1, soft masks.
      layers: [4, h, w] float32 person, hair, neck, clothes of the multiclass segmenter; None uses geometry and colour.

    Returns:
      [H, W] uint8, index into `PARTS`.
    """
    size = frame.shape[0]
    is_head, is_torso = head > 0.5, (torso > 0.5) & (head <= 0.5)
    if layers is not None:
        hair, neck = (cv2.resize(layers[i], (size, size), interpolation=cv2.INTER_LINEAR) > 0.5 for i in (1, 2))
    else:
        oval = np.zeros((size, size), np.uint8)
        cv2.fillPoly(oval, [np.round(landmarks[FACE_OVAL, :2]).astype(np.int32)], 1)
        # The oval runs just inside the skin's edge; what lies a little outside of it is still face.
        margin = np.ones((2 * max(size // 48, 1) + 1,) * 2, np.uint8)
        hair = cv2.dilate(oval, margin) == 0
        neck = _neck(frame, landmarks, oval > 0, is_torso)
    return np.select([is_head & ~hair, is_head & hair, is_torso & neck, is_torso], [1, 2, 3, 4], 0).astype(np.uint8)


def colour_parts(frame: np.ndarray, labels: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """uint8 [H, W, 3] the frame tinted by its parts."""
    return np.round((1.0 - strength) * frame + strength * COLOURS[labels]).astype(np.uint8)


def _neck(frame: np.ndarray, landmarks: np.ndarray, face: np.ndarray, torso: np.ndarray) -> np.ndarray:
    """[H, W] bool: torso pixels of the face's colour, near below the chin, hanging together with the jaw."""
    size = frame.shape[0]
    colour = cv2.cvtColor(cv2.GaussianBlur(frame, (0, 0), size / 256.0), cv2.COLOR_RGB2LAB).astype(np.float32)
    skin = colour[face]
    if len(skin) < 16:
        return np.zeros_like(torso)
    # The neck lies in the chin's shadow: lightness says little, hue and saturation much.
    scale = np.maximum(skin.std(0), 2.0) * np.array([3.0, 1.0, 1.0], np.float32)
    near = np.sqrt((((colour - np.median(skin, axis=0)) / scale) ** 2).mean(-1)) < SKIN_DISTANCE
    up = landmarks[FOREHEAD, :2] - landmarks[CHIN, :2]
    height = float(np.linalg.norm(up))
    y, x = np.mgrid[:size, :size]
    below = ((landmarks[CHIN, 0] - x) * up[0] + (landmarks[CHIN, 1] - y) * up[1]) / max(height, 1e-6) ** 2
    candidates = torso & near & (below < NECK_REACH)
    candidates = cv2.morphologyEx(candidates.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(candidates)
    touching = np.unique(labels[(cv2.dilate((below < 0.15).astype(np.uint8) * candidates, np.ones((3, 3), np.uint8)) > 0)])
    return np.isin(labels, touching[touching > 0])
