"""What is seen through the openings of the face: eyeballs, teeth, tongue and the dark of the mouth (canonical head frame, cm)."""

from __future__ import annotations

import numpy as np

from data_tools.avatar.expression import jaw_rotation
from data_tools.avatar.meshes import Mesh, grid
from data_tools.avatar.topology import INNER_UPPER_LIP, LOWER_LIDS, UPPER_LIDS

BALL_RADIUS = 1.42
BALL_ROWS, BALL_COLUMNS = 8, 28
BALL_EXTENT = np.deg2rad(72.0)
TEETH_ROWS, TEETH_COLUMNS = 3, 15
TONGUE_ROWS, TONGUE_COLUMNS = 6, 9


def ball_mesh() -> Mesh:
    """The front cap of an eyeball; its texture is the cap seen from the front."""
    mesh = grid(BALL_ROWS, BALL_COLUMNS, closed=True)
    angle = 2.0 * np.pi * mesh.corner_uv[..., 0]
    radius = np.sin(mesh.corner_uv[..., 1] * BALL_EXTENT) / np.sin(BALL_EXTENT)
    uv = np.stack([0.5 + 0.5 * radius * np.sin(angle), 0.5 - 0.5 * radius * np.cos(angle)], axis=-1)
    return Mesh(mesh.triangles, uv.astype(np.float32))


def ball_vertices(rest: np.ndarray, eye: int, gaze: np.ndarray) -> np.ndarray:
    """[BALL_ROWS, BALL_COLUMNS, 3]: eye 0 is the image's left; `gaze` (yaw, pitch) in radians from straight ahead."""
    upper, lower = rest[list(UPPER_LIDS[eye])], rest[list(LOWER_LIDS[eye])]
    middle = 0.5 * (upper[3:6] + lower[3:6]).mean(axis=0)
    polar = np.linspace(1e-3, BALL_EXTENT, BALL_ROWS)[:, None]
    around = np.linspace(0.0, 2.0 * np.pi, BALL_COLUMNS, endpoint=False)[None]
    x, y, z = np.sin(polar) * np.sin(around), np.sin(polar) * np.cos(around), np.cos(polar) * np.ones_like(around)
    yaw, pitch = gaze
    y, z = y * np.cos(pitch) + z * np.sin(pitch), z * np.cos(pitch) - y * np.sin(pitch)
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    centre = middle - np.array([0.0, 0.0, BALL_RADIUS + 0.06])
    return centre + BALL_RADIUS * np.stack([x, y, z], axis=-1)


def teeth_mesh() -> Mesh:
    return grid(TEETH_ROWS, TEETH_COLUMNS, closed=False, flip=True)


def _arch(rest: np.ndarray) -> tuple[np.ndarray, float, float]:
    """x, z [TEETH_COLUMNS] of the dental arch and the height y of the bite, from the lips at rest."""
    middle = rest[INNER_UPPER_LIP[5]]
    angle = np.linspace(-1.15, 1.15, TEETH_COLUMNS)
    half_width = 0.98 * abs(rest[INNER_UPPER_LIP[0], 0])
    return np.stack([half_width * np.sin(angle) / np.sin(1.15), middle[2] - 0.75 - 2.2 * (1.0 - np.cos(angle))], 1), middle[1], middle[2]


def upper_teeth(rest: np.ndarray) -> np.ndarray:
    """[TEETH_ROWS, TEETH_COLUMNS, 3], fixed to the skull; gums at row 0, edges at the last row."""
    arch, bite, _ = _arch(rest)
    y = bite + np.array([1.0, 0.45, -0.22])[:, None]
    tilt = np.array([-0.15, 0.0, 0.08])[:, None]
    return np.stack(np.broadcast_arrays(arch[:, 0], y, arch[:, 1] + tilt), axis=-1)


def lower_teeth(rest: np.ndarray, jaw: float) -> np.ndarray:
    """[TEETH_ROWS, TEETH_COLUMNS, 3], moving with the jaw (0..1); edges at row 0."""
    arch, bite, _ = _arch(rest)
    y = bite + np.array([-0.28, -0.75, -1.4])[:, None]
    points = np.stack(np.broadcast_arrays(0.92 * arch[:, 0], y, arch[:, 1] - 0.2), axis=-1)
    return jaw_rotation(points.reshape(-1, 3), np.array([jaw]))[0].reshape(points.shape)


def tongue_mesh() -> Mesh:
    return grid(TONGUE_ROWS, TONGUE_COLUMNS, closed=False, flip=True)


def tongue_vertices(rest: np.ndarray, jaw: float, raised: float) -> np.ndarray:
    """[TONGUE_ROWS, TONGUE_COLUMNS, 3]: lies behind the lower teeth; `raised` (0..1) lifts the tip forwards behind the upper ones."""
    middle = rest[INNER_UPPER_LIP[5]]
    along = np.linspace(0.0, 1.0, TONGUE_ROWS)[:, None]  # root to tip underside
    across = np.linspace(-1.0, 1.0, TONGUE_COLUMNS)[None]
    width = 1.75 * np.sqrt(np.maximum(1.0 - (1.15 * np.maximum(along - 0.45, 0.0) / 0.65) ** 2, 0.08))
    x = width * across
    arch = np.sin(np.pi * np.clip(along * 1.05, 0.0, 1.0)) ** 0.7
    y = middle[1] - 1.15 + 0.75 * arch * (1.0 - 0.35 * across**2) + 0.8 * raised * along
    z = middle[2] - 4.2 + 3.1 * np.minimum(along / 0.8, 1.0) + 0.35 * raised * along - 0.2 * across**2
    points = np.stack(np.broadcast_arrays(x, y, z), axis=-1)
    return jaw_rotation(points.reshape(-1, 3), np.array([0.9 * jaw]))[0].reshape(points.shape)
