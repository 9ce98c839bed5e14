"""Neck and torso, in the body frame: the canonical head frame of a head held straight (cm)."""

from __future__ import annotations

import numpy as np

from data_tools.avatar.meshes import Mesh, grid
from data_tools.avatar.speakers import Speaker

NECK_ROWS, NECK_COLUMNS = 9, 28
TORSO_ROWS, TORSO_COLUMNS = 12, 40
COLLAR_ROWS = 5

_NECK_TOP, _NECK_BOTTOM = -3.5, -15.0
_TORSO_Y = (-13.6, -14.0, -14.7, -15.8, -17.0, -18.4, -20.2, -22.5, -25.0, -28.0, -31.0, -35.0)
_TORSO_HALF_WIDTH = (6.7, 7.8, 10.4, 13.8, 16.8, 19.2, 21.2, 22.6, 23.4, 23.8, 24.0, 24.0)
_TORSO_HALF_DEPTH = (6.5, 7.0, 7.6, 8.4, 9.0, 9.6, 10.2, 10.8, 11.4, 11.8, 12.0, 12.0)


def neck_mesh() -> Mesh:
    return grid(NECK_ROWS, NECK_COLUMNS, closed=True, flip=True)


def neck_vertices(speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    """[NECK_ROWS, NECK_COLUMNS, 3] vertices, and the share [NECK_ROWS, NECK_COLUMNS] of the head's movement that each follows."""
    down = np.linspace(0.0, 1.0, NECK_ROWS)[:, None]
    # From the back around, so that the texture's ends meet unseen.
    angle = np.pi + np.linspace(0.0, 2.0 * np.pi, NECK_COLUMNS, endpoint=False)[None]
    radius = speaker.jaw_width * (5.1 + 0.5 * (2.0 * down - 1.0) ** 2 + 1.2 * np.maximum(down - 0.7, 0.0) / 0.3)
    y = _NECK_TOP + down * (_NECK_BOTTOM - _NECK_TOP)
    z = -3.6 - 1.6 * down + radius * 1.05 * np.cos(angle)
    points = np.stack(np.broadcast_arrays(radius * np.sin(angle), y, z), axis=-1)
    share = 1.0 - down * down * (3.0 - 2.0 * down)
    return points, np.broadcast_to(share, points.shape[:2])


def torso_mesh() -> Mesh:
    """The texture's rows follow the length of the cloth, not the mesh's rows, which crowd at the shoulders."""
    mesh = grid(TORSO_ROWS, TORSO_COLUMNS, closed=True, flip=True)
    length = np.cumsum(np.hypot(np.diff(_TORSO_Y, prepend=_TORSO_Y[0]), 0.5 * np.diff(_TORSO_HALF_WIDTH, prepend=_TORSO_HALF_WIDTH[0])))
    uv = mesh.corner_uv.copy()
    uv[..., 1] = np.interp(uv[..., 1] * (TORSO_ROWS - 1), np.arange(TORSO_ROWS), length / length[-1])
    return Mesh(mesh.triangles, uv)


def _section(half_width: np.ndarray, half_depth: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """x, z of rounded cross-sections; column 0 is the back, so the texture's seam is unseen."""
    angle = np.pi + np.linspace(0.0, 2.0 * np.pi, n_columns, endpoint=False)[None]
    sine, cosine = np.sin(angle), np.cos(angle)
    return half_width * np.sign(sine) * np.abs(sine) ** 0.85, half_depth * cosine


def torso_vertices() -> np.ndarray:
    """[TORSO_ROWS, TORSO_COLUMNS, 3]: shoulders and chest, down past the picture's lower edge."""
    x, z = _section(np.array(_TORSO_HALF_WIDTH)[:, None], np.array(_TORSO_HALF_DEPTH)[:, None], TORSO_COLUMNS)
    front = np.maximum(z, 0.0) / 12.0
    y = np.array(_TORSO_Y)[:, None] - 1.6 * front * np.linspace(1.0, 0.3, TORSO_ROWS)[:, None]
    return np.stack(np.broadcast_arrays(x, y, z - 5.0), axis=-1)


def collar_meshes() -> tuple[Mesh, Mesh]:
    """The half of the collar behind the neck and the half in front of it."""
    mesh = grid(COLLAR_ROWS, TORSO_COLUMNS, closed=True, flip=True)
    front = np.abs(mesh.corner_uv[..., 0].mean(axis=1) - 0.5) < 0.25
    return tuple(Mesh(mesh.triangles[half], mesh.corner_uv[half]) for half in (~front, front))


def collar_vertices() -> np.ndarray:
    """[COLLAR_ROWS, TORSO_COLUMNS, 3]: a rolled edge where the clothes meet the neck."""
    roll = np.linspace(-0.5 * np.pi, 0.75 * np.pi, COLLAR_ROWS)[:, None]
    x, z = _section(7.0 + 0.75 * np.sin(roll), 6.6 + 0.75 * np.sin(roll), TORSO_COLUMNS)
    y = -13.65 + 0.9 * np.cos(roll) - 1.5 * np.maximum(z, 0.0) / 12.0
    return np.stack(np.broadcast_arrays(x, y, z - 5.0), axis=-1)
