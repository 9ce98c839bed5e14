"""Regions of a person mask: head and torso division, connected components, and the parts shown in the report."""

import cv2
import numpy as np

from data_tools.landmarks68 import CHIN, FACE_OVAL, FOREHEAD, JAW_LINE

# -------- Connected components


def connected_component(mask: np.ndarray, seed: tuple[float, float]) -> np.ndarray:
    """[H, W] bool mask -> its connected component at `seed` (x, y in pixels), or the largest one if the mask is False there."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count <= 2:
        return mask.copy()
    x, y = (int(np.clip(round(value), 0, side - 1)) for value, side in zip(seed, mask.shape[::-1], strict=True))
    label = labels[y, x] or 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return labels == label


def disconnected(soft: np.ndarray, seed: tuple[float, float], margin: int = 4) -> np.ndarray:
    """[H, W] float 0..1 soft mask -> [H, W] bool, True in components not connected to `seed` and up to `margin` pixels around them."""
    solid = soft > 0.5
    others = (solid & ~connected_component(solid, seed)).astype(np.uint8)
    return cv2.dilate(others, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)) > 0


# -------- Head and torso: divided along the jaw line, or by the classes of the multiclass segmenter

WORK_SIZE = 256
"""Side in pixels at which the masks are made; they are scaled up for larger pictures."""

JAW_MARGIN = 0.025
"""Outward shift of the jaw line, in face heights: MediaPipe's oval runs just inside the skin's shadow edge."""

HAIR_REACH = 0.06
"""Width beside the ear lobe, in face heights, in which hair down to the chin line belongs to the head."""

CHIN_LINE = 0.06
"""Beside the jaw, everything lower than this far below the chin (in face heights) belongs to the torso."""


def head_region(landmarks: np.ndarray, size: int = WORK_SIZE) -> np.ndarray:
    """Soft mask of the head side of the jaw line.

    The border follows the jaw line from ear lobe to ear lobe; outside it drops to the chin line and then rises, so that hair beside the
    face belongs to the head, and hair that is lower or on the shoulders to the torso.

    Args:
      landmarks: [478, 2+] pixels of a size x size picture.
      size: pixels.

    Returns:
      [size, size] float32, 1 = head side, with an edge about two pixels wide.
    """
    xy = np.asarray(landmarks, np.float64)[:, :2]
    up = xy[FOREHEAD] - xy[CHIN]
    height = float(np.linalg.norm(up))
    up /= height
    right = np.array([-up[1], up[0]])
    jaw = xy[JAW_LINE]
    center = xy[FOREHEAD] * 0.5 + xy[CHIN] * 0.5
    outward = jaw - center
    jaw = jaw + JAW_MARGIN * height * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    chin_line = xy[CHIN] - CHIN_LINE * height * up
    far = 4.0 * size

    def side(lobe: np.ndarray, direction: float) -> list[np.ndarray]:
        """From the lobe outward and down to the chin line, then up and out of the picture."""
        across = float((lobe - chin_line) @ right)
        corner = chin_line + (across + direction * HAIR_REACH * height) * right
        # Rises at 45 degrees: a raised shoulder stays below the border, hair does not reach it.
        return [corner, corner + far * (direction * right + up)]

    # The jaw line ends at the upper part of the ears; the border leaves it at the lobes (third point from each end).
    lobe_left, lobe_right = jaw[2], jaw[-3]
    left, inner, right_side = side(lobe_left, -1.0), jaw[2:-2], side(lobe_right, 1.0)
    polygon = np.array([*reversed(left), *inner, *right_side])
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), size / 256.0).astype(np.float32) / 255.0


def head_share(layers: np.ndarray) -> np.ndarray:
    """Soft mask of the head from classes: the person without neck and clothes (as in GeneFace++).

    Args:
      layers: [4, H, W] float32 person, hair, neck, clothes.

    Returns:
      [H, W] float32, 1 = head side.
    """
    person, _, neck, clothes = layers
    share = 1.0 - (neck + clothes) / np.maximum(person, 1e-3)
    return cv2.GaussianBlur(np.clip(share, 0.0, 1.0).astype(np.float32), (0, 0), layers.shape[-1] / 256.0)


# -------- Part labels for reports and measurements; the dataset itself needs head and torso only
#
# Without the multiclass segmenter, face is the inside of the face oval, hair the rest of the head, and neck the skin below the jaw.

PARTS = ("background", "face", "hair", "neck", "clothes")
"""Names of the labels 0 to 4."""

COLORS = np.array([[235, 235, 235], [240, 180, 140], [90, 60, 40], [225, 120, 90], [60, 110, 190]], np.uint8)
"""RGB of each part in pictures of the parts."""

NECK_REACH = 0.6
"""Length below the chin within which skin counts as neck, in face heights."""

SKIN_DISTANCE = 4.0
"""Standard deviations from the face's median color within which a pixel is skin."""


def label_parts(
    frame: np.ndarray, landmarks: np.ndarray, head: np.ndarray, torso: np.ndarray, layers: np.ndarray | None = None
) -> np.ndarray:
    """Labels every pixel with its part.

    Args:
      frame: uint8 [H, W, 3].
      landmarks: [478, 2+] pixels.
      head, torso: [H, W] float 0..1, soft masks.
      layers: [4, h, w] float32 person, hair, neck, clothes of the multiclass segmenter; None uses geometry and color.

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
        # The oval runs just inside the skin's edge; a small margin around it is still face.
        margin = np.ones((2 * max(size // 48, 1) + 1,) * 2, np.uint8)
        hair = cv2.dilate(oval, margin) == 0
        neck = _neck(frame, landmarks, oval > 0, is_torso)
    return np.select([is_head & ~hair, is_head & hair, is_torso & neck, is_torso], [1, 2, 3, 4], 0).astype(np.uint8)


def color_parts(frame: np.ndarray, labels: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """uint8 [H, W, 3] the frame tinted by its parts."""
    return np.round((1.0 - strength) * frame + strength * COLORS[labels]).astype(np.uint8)


def _neck(frame: np.ndarray, landmarks: np.ndarray, face: np.ndarray, torso: np.ndarray) -> np.ndarray:
    """[H, W] bool: torso pixels of the face's color, closely below the chin and connected to the jaw."""
    size = frame.shape[0]
    color = cv2.cvtColor(cv2.GaussianBlur(frame, (0, 0), size / 256.0), cv2.COLOR_RGB2LAB).astype(np.float32)
    skin = color[face]
    if len(skin) < 16:
        return np.zeros_like(torso)
    # The neck is in the chin's shadow: lightness counts less than hue and saturation.
    scale = np.maximum(skin.std(0), 2.0) * np.array([3.0, 1.0, 1.0], np.float32)
    near = np.sqrt((((color - np.median(skin, axis=0)) / scale) ** 2).mean(-1)) < SKIN_DISTANCE
    up = landmarks[FOREHEAD, :2] - landmarks[CHIN, :2]
    height = float(np.linalg.norm(up))
    y, x = np.mgrid[:size, :size]
    below = ((landmarks[CHIN, 0] - x) * up[0] + (landmarks[CHIN, 1] - y) * up[1]) / max(height, 1e-6) ** 2
    candidates = torso & near & (below < NECK_REACH)
    candidates = cv2.morphologyEx(candidates.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(candidates)
    touching = np.unique(labels[(cv2.dilate((below < 0.15).astype(np.uint8) * candidates, np.ones((3, 3), np.uint8)) > 0)])
    return np.isin(labels, touching[touching > 0])
