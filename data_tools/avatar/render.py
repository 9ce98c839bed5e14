"""Rendering a performance: light, texture, background, and the true head mask of every frame."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from data_tools.avatar.camera import OFFSET, head_to_camera, project
from data_tools.avatar.meshes import vertex_normals
from data_tools.avatar.model import Avatar
from data_tools.avatar.raster import SAMPLES, interpolate, triangle_buffer, visible_order
from data_tools.avatar.room import make_background
from data_tools.avatar.speakers import Speaker
from data_tools.avatar.texture import make_atlas
from data_tools.avatar.truth import Performance
from data_tools.avatar.visemes import PARAMETERS

AMBIENT, KEY, FILL, RIM = 0.40, 0.60, 0.14, 0.16
KEY_DIRECTION = np.array([-0.42, 0.52, 0.74])
FILL_DIRECTION = np.array([0.75, 0.05, 0.55])
RIM_DIRECTION = np.array([0.80, 0.35, -0.45])
SHININESS = 18.0
_DARKEST, _LIGHT_LIMIT, _HIGHLIGHT_LIMIT = 0.15, 1.15, 0.12
"""What light and highlight reach on any surface; at outlines, interpolation overshoots and would sprinkle dots."""

EYE_CONTACT = 0.75
"""Share of a head turn that the eyes undo to stay on the camera."""


class Renderer:
    """Renders frames of one speaker at one size; about 33 ms of one core a frame at 512."""

    def __init__(self, speaker: Speaker, size: int = 512):
        self.size = size
        self.avatar = Avatar(speaker)
        self.background = make_background(speaker, size)
        self._atlas = make_atlas(speaker).astype(np.uint8)
        self._canvas = cv2.resize(self.background, None, fx=SAMPLES, fy=SAMPLES, interpolation=cv2.INTER_NEAREST)
        self._key = KEY_DIRECTION / np.linalg.norm(KEY_DIRECTION)
        self._fill = FILL_DIRECTION / np.linalg.norm(FILL_DIRECTION)
        self._rim = RIM_DIRECTION / np.linalg.norm(RIM_DIRECTION)
        self._tint = _light_tint()
        half = self._key + np.array([0.0, 0.0, 1.0])
        self._half = half / np.linalg.norm(half)

    def frames(self, performance: Performance) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields each frame as [H, W, 3] uint8 RGB and its soft head mask [H, W] uint8 (head, hair, face = 255)."""
        rotations, translations = head_to_camera(performance.behaviour)
        jaw, tongue = (performance.mouth[:, PARAMETERS.index(name)] for name in ("jaw", "tongue"))
        for t, face in enumerate(performance.vertices.astype(np.float64)):
            yaw, pitch, _ = performance.behaviour.angles[t]
            gaze = np.array([-EYE_CONTACT * yaw, -EYE_CONTACT * pitch])
            body_at = performance.behaviour.sway[t] + OFFSET
            vertices = self.avatar.pose(face, float(jaw[t]), float(tongue[t]), gaze, rotations[t], translations[t], body_at)
            yield self.draw(vertices)

    def draw(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Camera-frame vertices [V, 3] of the figure -> picture and head mask."""
        figure = self.avatar.figure
        points = project(vertices, self.size)
        order = visible_order(points, -vertices[:, 2], figure.triangles, figure.layer)
        buffer = triangle_buffer(points, figure.triangles, order, self.size)
        light, highlight = self._light(vertices)
        corners = np.concatenate([figure.corner_uv, light[figure.triangles][..., None], highlight[figure.triangles][..., None]], axis=-1)
        covered, (u, v, light, highlight) = interpolate(buffer, points, figure.triangles, corners)
        # OpenCV's arithmetic, because it runs over interleaved channels in one pass and saturates.
        u, v, light, highlight = (
            _folded(values) for values in (u, v, np.clip(light, _DARKEST, _LIGHT_LIMIT), 255.0 * np.clip(highlight, 0.0, _HIGHLIGHT_LIMIT))
        )
        albedo = cv2.remap(self._atlas, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        level = cv2.convertScaleAbs(light, alpha=255.0 / _LIGHT_LIMIT)
        lit = cv2.multiply(albedo, cv2.LUT(cv2.merge([level] * 3), self._tint), dtype=cv2.CV_32F)
        colour = cv2.add(lit, cv2.merge([highlight] * 3), dtype=cv2.CV_8U)
        canvas = self._canvas.copy()
        canvas.reshape(-1, 3)[covered] = colour.reshape(-1, 3)[: len(covered)]
        image = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        in_head = np.append(np.where(figure.is_head, np.uint8(255), np.uint8(0)), np.uint8(0))
        mask = cv2.resize(in_head[buffer], (self.size, self.size), interpolation=cv2.INTER_AREA)
        return image, mask

    def _light(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[V] diffuse factor and [V] highlight, from a soft key light, a weaker fill and a light from behind, all fixed in the room."""
        figure = self.avatar.figure
        normals, _ = vertex_normals(vertices, figure.triangles)
        key = np.clip((normals @ self._key + 0.25) / 1.25, 0.0, 1.0)
        fill = np.clip(normals @ self._fill, 0.0, 1.0)
        rim = np.clip(normals @ self._rim, 0.0, 1.0)
        light = figure.shade * (AMBIENT + KEY * key + FILL * fill + RIM * rim)
        highlight = figure.gloss * np.clip(normals @ self._half, 0.0, 1.0) ** SHININESS
        return light, highlight


def _light_tint() -> np.ndarray:
    """[1, 256, 3] float32 factor of red, green and blue for a light level 0..`_LIGHT_LIMIT`: shadows are warmer than what is lit."""
    level = np.linspace(0.0, _LIGHT_LIMIT, 256)
    shadow = np.clip(1.0 - level, 0.0, 1.0)
    return (level[:, None] * (1.0 + shadow[:, None] * np.array([0.14, 0.0, -0.05])))[None].astype(np.float32)


def _folded(values: np.ndarray) -> np.ndarray:
    """[N] -> [R, 1024] with copies at the end: OpenCV limits a picture's sides to 32767."""
    n_rows = -(-len(values) // 1024)
    return np.resize(values, (n_rows, 1024)).astype(np.float32, copy=False)
