"""A speaker's face at rest: the canonical mesh with that speaker's proportions, lips together, eyes open."""

from __future__ import annotations

import numpy as np

from data_tools.avatar.speakers import Speaker
from data_tools.avatar.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, OUTER_LOWER_LIP, OUTER_UPPER_LIP, UPPER_LIDS
from data_tools.face.canonical import canonical_face

MOUTH_CENTRE = np.array([0.0, -4.27, 5.4])
"""cm, between the canonical lips."""

NOSE_TIP = np.array([0.0, -0.46, 7.6])


def _smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(vertices: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """[468] Gaussian of the distance in x and y."""
    return np.exp(-np.sum((vertices[:, :2] - np.asarray(centre)[:2]) ** 2, axis=1) / (2.0 * radius**2))


def rest_vertices(speaker: Speaker) -> np.ndarray:
    """[468, 3] float64 cm in the canonical head frame: the face of `speaker` with the mouth shut and the eyes open."""
    vertices = canonical_face()["vertices"].astype(np.float64).copy()
    _shut_mouth(vertices)
    x, y = vertices[:, 0].copy(), vertices[:, 1].copy()
    # Each feature is a smooth field, so neighbouring vertices never cross.
    vertices[:, 0] *= speaker.face_width * (1.0 + (speaker.jaw_width - 1.0) * _smoothstep(-y, 0.0, 6.0))
    vertices[:, 1] -= speaker.chin_length * _smoothstep(-y, 5.0, 9.0)
    for side in (-1.0, 1.0):
        cheek = _bump(vertices, np.array([side * 4.6, -2.0]), 2.0)
        vertices[:, 0] += side * speaker.cheek * cheek
        vertices[:, 2] += 0.6 * speaker.cheek * cheek
    nose = _bump(vertices, NOSE_TIP, 1.5)
    vertices[:, 0] += (speaker.nose_width - 1.0) * x * nose
    vertices[:, 1] -= speaker.nose_length * _bump(vertices, NOSE_TIP, 1.2)
    for lids, side in zip(UPPER_LIDS, (-1.0, 1.0), strict=True):
        centre = canonical_face()["vertices"][list(lids)].mean(axis=0)
        eye = _bump(vertices, centre, 1.5)[:, None]
        vertices[:, :2] += (speaker.eye_size - 1.0) * eye * (vertices[:, :2] - centre[:2])
        vertices[:, 0] += side * speaker.eye_spacing * eye[:, 0]
    vertices[:, 1] += speaker.brow_height * _bump(vertices, np.array([-3.5, 5.0]), 1.2)
    vertices[:, 1] += speaker.brow_height * _bump(vertices, np.array([3.5, 5.0]), 1.2)
    mouth = np.exp(-((x / 3.4) ** 2) - ((y - MOUTH_CENTRE[1]) / 1.5) ** 2)
    vertices[:, 0] += (speaker.mouth_width - 1.0) * x * mouth
    vertices[:, 1] += (speaker.lip_thickness - 1.0) * (vertices[:, 1] - MOUTH_CENTRE[1]) * mouth
    vertices[:, 2] += 0.5 * (speaker.lip_thickness - 1.0) * mouth
    vertices[:, 1] *= speaker.face_height
    return vertices


def _shut_mouth(vertices: np.ndarray) -> None:
    """The canonical lips are a few millimetres apart; brings the inner lines together and the outer ones half as far."""
    shift = 0.5 * (vertices[list(INNER_UPPER_LIP)] - vertices[list(INNER_LOWER_LIP)])
    lips = ((INNER_UPPER_LIP, -1.0), (INNER_LOWER_LIP, 1.0), (OUTER_UPPER_LIP, -0.5), (OUTER_LOWER_LIP, 0.5))
    for loop, share in lips:
        # Both halves contain the corners, whose shift is zero.
        vertices[list(loop)] += share * shift
