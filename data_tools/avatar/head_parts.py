"""Skull, hair and ears: everything of the head behind the face, in the canonical head frame (cm)."""

from __future__ import annotations

import numpy as np

from data_tools.avatar.meshes import Mesh, grid
from data_tools.avatar.speakers import Speaker
from data_tools.avatar.topology import FACE_OVAL

SKULL_CENTRE = np.array([0.0, 3.9, -3.4])
SKULL_RADII = np.array([7.55, 8.7, 9.4])
_BACK = np.array([0.0, -0.12, -1.0])

SKULL_ROWS = 8
HAIR_ROWS, HAIR_COLUMNS = 9, 108
CURTAIN_ROWS, CURTAIN_COLUMNS = 8, 24
EAR_ROWS, EAR_COLUMNS = 10, 28

# How far behind the face's boundary (0) and before the back of the head (1) the hair starts, from the top of the forehead down to the chin.
_HAIRLINE_SHORT = (-0.035, -0.035, -0.035, -0.03, -0.02, 0.0, 0.03, 0.08, 0.30, 0.42, 0.5, 0.58, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95)
_HAIRLINE_LONG = (-0.05, -0.055, -0.065, -0.065, -0.055, -0.03, -0.01, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95)
LONG_HAIR = 0.5
"""Speakers with a hair length above this wear it over the ears, down to the neck."""


def _around(face: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Points of the face's boundary at fractional positions `columns` (0..36, clockwise from the top)."""
    loop = face[list(FACE_OVAL)]
    low = np.floor(columns).astype(int)
    part = (columns - low)[:, None]
    return loop[low % 36] * (1 - part) + loop[(low + 1) % 36] * part


def _sweep(start: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From boundary points [C, 3] (t = 0) around the skull's ellipsoid to the back of the head (t = 1): t [R, C] -> [R, C, 3]."""
    unit = (start - SKULL_CENTRE) / SKULL_RADII
    radius = np.linalg.norm(unit, axis=1)
    direction = unit / radius[:, None]
    back = _BACK / np.linalg.norm(_BACK)
    angle = np.arccos(np.clip(direction @ back, -1.0, 1.0))
    sine = np.sin(angle)
    turned = (np.sin((1 - t) * angle) / sine)[..., None] * direction + (np.sin(t * angle) / sine)[..., None] * back
    blend = np.clip(t, 0.0, 1.0) ** 0.6
    return SKULL_CENTRE + SKULL_RADII * turned * (radius * (1 - blend) + blend)[..., None]


def skull_mesh() -> Mesh:
    """Rows 1.. of the skull; row 0 is the face's own boundary (see `skull_vertices`)."""
    return grid(SKULL_ROWS, 36, closed=True)


def skull_vertices(face: np.ndarray) -> np.ndarray:
    """[SKULL_ROWS - 1, 36, 3]: the rows behind the boundary of a face [468, 3]."""
    t = np.linspace(0.0, 1.0, SKULL_ROWS)[1:] * 0.999
    return _sweep(_around(face, np.arange(36.0)), np.repeat(t[:, None], 36, axis=1))


def parting(speaker: Speaker) -> float:
    """Where the hair parts: share of the way around the head, -0.5..0.5, from above the middle of the forehead to the image's right."""
    side = 1.0 if np.random.default_rng([speaker.seed, 5]).random() < 0.4 else -1.0
    return side * (0.012 if speaker.hair_length > LONG_HAIR else 0.05)


def hair_meshes(vertices: np.ndarray) -> tuple[Mesh, Mesh]:
    """The half of the hair behind the ears and the half before them, from `hair_vertices`."""
    mesh = grid(HAIR_ROWS, HAIR_COLUMNS, closed=True)
    front = vertices.reshape(-1, 3)[mesh.triangles, 2].mean(axis=1) > SKULL_CENTRE[2]
    return tuple(Mesh(mesh.triangles[half], mesh.corner_uv[half]) for half in (~front, front))


def hair_vertices(face: np.ndarray, speaker: Speaker) -> np.ndarray:
    """[HAIR_ROWS, HAIR_COLUMNS, 3]: a cap that starts at the hairline, thin there and full further back, with uneven locks."""
    generator = np.random.default_rng([speaker.seed, 1])
    columns = np.arange(HAIR_COLUMNS) * 36.0 / HAIR_COLUMNS
    from_top = np.minimum(columns, 36.0 - columns)
    hairline = _HAIRLINE_LONG if speaker.hair_length > LONG_HAIR else _HAIRLINE_SHORT
    first = np.interp(from_top, np.arange(19), hairline) + generator.normal(0.0, 0.004, HAIR_COLUMNS)
    along = np.linspace(0.0, 1.0, HAIR_ROWS) ** 1.4
    t = first + along[:, None] * (0.999 - first)
    points = _sweep(_around(face, columns), t)
    locks = 0.07 * np.convolve(np.pad(generator.standard_normal(HAIR_COLUMNS), 3, mode="wrap"), np.hanning(9)[1:-1], mode="valid")
    # Shape and locks fade towards the back of the head, where the columns crowd together.
    fading = np.clip(1.5 - 2.0 * along[:, None], 0.0, 1.0)
    # Full above the forehead, with a dip at the parting; close to the skull at the temples.
    crown = np.interp(from_top, (0.0, 4.0, 7.0, 10.0, 18.0), (0.5, 0.3, -0.1, -0.3, 0.0))
    aside = (columns / 36.0 - parting(speaker) + 0.5) % 1.0 - 0.5
    crown -= 0.16 * np.exp(-((aside / 0.015) ** 2))
    thickness = speaker.hair_volume * (0.04 + (1.0 + (crown + locks) * fading) * np.minimum(along[:, None] * 4.0, 1.0) ** 0.7)
    outward = (points - SKULL_CENTRE) / SKULL_RADII**2
    return points + thickness[..., None] * outward / np.linalg.norm(outward, axis=-1, keepdims=True)


def curtain_mesh() -> Mesh:
    return grid(CURTAIN_ROWS, CURTAIN_COLUMNS, closed=False, flip=True)


def curtain_vertices(speaker: Speaker) -> np.ndarray:
    """[CURTAIN_ROWS, CURTAIN_COLUMNS, 3]: long hair that hangs behind the neck, bent forwards at its sides; not drawn for short hair."""
    generator = np.random.default_rng([speaker.seed, 2])
    length = 2.0 + 13.0 * (speaker.hair_length - LONG_HAIR) / (1.0 - LONG_HAIR) if speaker.hair_length > LONG_HAIR else 0.0
    angle = np.linspace(-0.62 * np.pi, 0.62 * np.pi, CURTAIN_COLUMNS)
    down = np.linspace(0.0, 1.0, CURTAIN_ROWS)[:, None]
    width = 7.9 + 0.8 * speaker.hair_volume + 0.6 * np.sin(np.pi * down)
    ends = generator.uniform(-0.5, 0.5, CURTAIN_COLUMNS)
    x = width * np.sin(angle) * (1.0 - 0.06 * down)
    z = -3.6 - 7.6 * np.cos(angle) * (1.0 - 0.25 * down)
    y = 3.0 - down * (5.5 + length + ends * (length > 0))
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def ear_mesh(side: float) -> Mesh:
    return grid(EAR_ROWS, EAR_COLUMNS, closed=True, flip=side > 0)


def ear_vertices(speaker: Speaker, side: float) -> np.ndarray:
    """[EAR_ROWS, EAR_COLUMNS, 3]: side -1 is the image's left. Rows run from the hollow out to the rim and back to the head."""
    # From the front around, so that the texture's ends meet behind the face.
    angle = np.pi + np.linspace(0.0, 2.0 * np.pi, EAR_COLUMNS, endpoint=False)
    # Hollow, inner ridge, groove, rolled rim, back.
    radius = np.array([0.02, 0.24, 0.44, 0.58, 0.70, 0.82, 0.92, 1.0, 0.98, 0.86])[:, None]
    relief = np.array([-0.55, -0.50, -0.20, 0.24, 0.20, 0.10, 0.42, 0.34, 0.05, -0.5])[:, None]
    # Broad and round at the top, narrow at the lobe.
    backwards = 1.75 * np.cos(angle) * (1.0 + 0.28 * np.sin(angle))
    upwards = 3.1 * np.sin(angle)
    axis_back = np.array([side * 0.42, 0.0, -0.9])
    axis_up = np.array([side * 0.08, 0.98, -0.18])
    axis_out = np.array([side * 0.9, 0.0, 0.42])
    centre = np.array([side * 7.75 * speaker.face_width, 0.1, -4.3])
    flat = radius[..., None] * (backwards[:, None] * axis_back + upwards[:, None] * axis_up)
    return centre + flat + relief[..., None] * axis_out * np.ones((1, EAR_COLUMNS, 1))
