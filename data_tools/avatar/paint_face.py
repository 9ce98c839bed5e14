"""The face's tile: skin, shadows that rest on it, brows, lids and lips, placed by the mesh's vertices."""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.avatar import topology as topo
from data_tools.avatar.paint import blob, mottle, stroke
from data_tools.avatar.speakers import Speaker


def paint_face(shape: tuple[int, int], points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB of the face's tile.

    The tile shows the face upside down: what is higher on the face has a larger y.

    Args:
      shape: of the tile.
      points: [468, 2] the mesh's vertices in pixels of the tile.
      speaker: colours and brows.
      generator: of everything that is uneven.
    """
    skin = np.array(speaker.skin, np.float32)
    image = skin * mottle(shape, generator)
    for vertex in (50, 280):  # cheeks
        image *= 1.0 + blob(shape, points[vertex], (85, 75)) * np.array([0.03, -0.06, -0.05])
    image *= 1.0 + blob(shape, points[4], (55, 45)) * np.array([0.02, -0.05, -0.05])
    _freckles(image, points, speaker, generator)
    for eye in (0, 1):
        _paint_eye_surround(image, points, eye)
        _paint_brow(image, points, eye, speaker, generator)
    _paint_shadows(image, points)
    for crease in ((98, 206, 216, 212), (327, 426, 436, 432)):  # from the nostril down beside the mouth
        image *= 1.0 - 0.13 * stroke(shape, points[list(crease)], 6, 7.0)
    for nostril in (79, 309):  # a vertex under each wing of the nose
        image *= 1.0 - 0.55 * blob(shape, points[nostril], (12, 7))
    image *= 1.0 - 0.22 * blob(shape, 0.5 * points[17] + 0.5 * points[18], (52, 15))
    _paint_lips(image, points, speaker, generator)
    return image


def _paint_shadows(image: np.ndarray, points: np.ndarray) -> None:
    """Where little of the room's light arrives: under the hair, beside and below the nose, along the jaw; and where much does."""
    shape = image.shape[:2]
    warm = np.array([0.85, 1.0, 1.05])
    oval = points[list(topo.FACE_OVAL)]
    hair = np.concatenate([oval[-9:], oval[:10]])
    image *= 1.0 - 0.34 * np.minimum(1.6 * stroke(shape, hair, 46, 20.0), 1.0) * warm
    image *= 1.0 - 0.16 * np.minimum(1.4 * stroke(shape, oval[9:28], 40, 24.0), 1.0) * warm
    image *= 1.0 - 0.24 * blob(shape, points[2] - (0, 10), (46, 17)) * warm
    for bridge, wing in ((193, 129), (417, 358)):
        image *= 1.0 - 0.13 * blob(shape, points[bridge], (20, 30)) * warm
        image *= 1.0 - 0.15 * blob(shape, points[wing], (14, 22)) * warm
    for vertex, gain, radius in ((4, 0.07, (15, 13)), (6, 0.05, (12, 46)), (151, 0.05, (110, 45)), (175, 0.03, (50, 26))):
        image *= 1.0 + gain * blob(shape, points[vertex], radius)
    for cheek in (117, 346):
        image *= 1.0 + 0.05 * blob(shape, points[cheek], (60, 26))


def _freckles(image: np.ndarray, points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> None:
    """A mole and, for fair people, freckles: marks that a model can be seen to reproduce."""
    n_freckles = int(generator.integers(20, 120)) if sum(speaker.skin) > 560 else 6
    canvas = np.zeros(image.shape[:2], np.float32)
    middle, spread = points[[50, 280]].mean(axis=0), np.array([150.0, 60.0])
    for x, y in generator.normal(middle, spread, (n_freckles, 2)):
        cv2.circle(
            canvas,
            (int(x * 16), int(y * 16)),
            int(generator.uniform(1.0, 2.4) * 16),
            float(generator.uniform(0.08, 0.26)),
            -1,
            cv2.LINE_AA,
            4,
        )
    # One mole, on a cheek or the chin: near an eye or the nose it would read as dirt.
    at = points[(205, 425, 214, 434)[generator.integers(4)]] + generator.uniform(-18, 18, 2)
    cv2.circle(canvas, (int(at[0]), int(at[1])), 3, 0.5, -1, cv2.LINE_AA)
    image *= 1.0 - cv2.GaussianBlur(canvas, (0, 0), 1.1)[..., None] * np.array([0.45, 0.6, 0.65])


def _paint_eye_surround(image: np.ndarray, points: np.ndarray, eye: int) -> None:
    shape = image.shape[:2]
    upper, lower = points[list(topo.UPPER_LIDS[eye])], points[list(topo.LOWER_LIDS[eye])]
    image *= 1.0 - 0.24 * blob(shape, upper.mean(axis=0) + (0, 16), (62, 32)) * np.array([0.85, 1.0, 1.0])
    image *= 1.0 - 0.08 * blob(shape, lower.mean(axis=0) - (0, 22), (55, 20))
    image *= 1.0 - 0.30 * stroke(shape, points[list(topo.UPPER_CREASES[eye])], 3, 2.0)
    image *= 1.0 - 0.80 * np.minimum(1.5 * stroke(shape, upper - (0, 2), 6, 1.2), 1.0)  # lashes and the lid's edge
    image *= 1.0 - 0.35 * stroke(shape, lower + (0, 1), 3, 1.2)


def _paint_brow(image: np.ndarray, points: np.ndarray, eye: int, speaker: Speaker, generator: np.random.Generator) -> None:
    """Hairs that lean outwards, in a band between the brow's upper and lower edge."""
    top, bottom = (points[list(edge)] for edge in topo.BROWS[eye])
    canvas = np.zeros(image.shape[:2], np.float32)
    along = 4.0 * generator.beta(1.15, 1.15, 560)
    across = np.clip(generator.normal(0.5, 0.19 * speaker.brow_weight, 560), 0.0, 1.0)
    knots = np.arange(5)
    outward = -1.0 if eye == 0 else 1.0
    for a, b in zip(along, across, strict=True):
        edge = [np.array([np.interp(a, knots, side[:, 0]), np.interp(a, knots, side[:, 1])]) for side in (top, bottom)]
        root = edge[0] * (1 - b) + edge[1] * b
        # Near the nose the hairs stand up, towards the temple they lie flat.
        tip = root + generator.uniform(10, 17) * np.array([outward * (1.0 - 0.14 * a), -0.25 - 0.16 * a])
        ends = [tuple(int(v * 16) for v in end) for end in (root, tip)]
        cv2.line(canvas, *ends, float(generator.uniform(0.35, 0.75)), 2, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(canvas, (0, 0), 6.0)
    alpha = np.clip(0.8 * cv2.GaussianBlur(canvas, (0, 0), 1.0) + 0.25 * soft, 0.0, 0.9)[..., None]
    image[:] = image * (1 - alpha) + 0.58 * np.array(speaker.hair, np.float32) * alpha


def _paint_lips(image: np.ndarray, points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> None:
    shape = image.shape[:2]
    outer = points[[*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP[::-1][1:-1]]]
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.round(outer * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    mask = 0.92 * cv2.GaussianBlur(mask, (0, 0), 3.6)[..., None]
    folds = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=1.8, sigmaY=12.0)
    lips = np.array(speaker.lips, np.float32) * (1.0 + 0.035 * folds / folds.std())[..., None]
    # Fuller in the middle: the edges go over into the skin.
    lips *= 1.0 - 0.10 * stroke(shape, outer, 10, 6.0, closed=True)
    upper = points[[*topo.OUTER_UPPER_LIP, *topo.INNER_UPPER_LIP[::-1]]]
    shade = np.zeros(shape, np.float32)
    cv2.fillPoly(shade, [np.round(upper).astype(np.int32)], 1.0)
    lips *= 1.0 - 0.12 * cv2.GaussianBlur(shade, (0, 0), 3.0)[..., None]
    # The lower lip catches the key light, the bow of the upper one a little of it.
    middle = 0.5 * (points[14] + points[17])
    lips += (34.0 * blob(shape, middle - (8, 2), (30, 7)) + 16.0 * blob(shape, middle - (10, 3), (12, 4))) * np.array([1.0, 0.9, 0.88])
    lips += 12.0 * blob(shape, 0.55 * points[0] + 0.45 * points[13], (24, 5))
    image[:] = image * (1 - mask) + lips * mask
    for loop in (topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP):
        image *= 1.0 - 0.50 * stroke(shape, points[list(loop)], 4, 2.0)
