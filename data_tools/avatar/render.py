"""Software renderer of the avatar: the posed figure mesh, camera, triangle rasterizer, lighting, background room, head masks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from data_tools.avatar import geometry
from data_tools.avatar.geometry import vertex_normals
from data_tools.avatar.performance import HeadMotion, Performance
from data_tools.avatar.speakers import PARAMETERS, Speaker
from data_tools.avatar.texture import face_uv, make_atlas, tile_uv

# -------- A speaker's complete figure as one triangle mesh: assembled once, posed for every frame

BEHIND, BODY, COLLAR, OPENING_BACK, OPENING, OPENING_FRONT, HAIR_BACK, HEAD, HAIR = range(9)
"""Drawing layers, back to front. Parts inside an opening of the face are drawn before the face, so no depth test is needed there."""


@dataclass
class Figure:
    """Topology and material of all parts of one speaker.

    triangles [M, 3], corner_uv [M, 3, 2] atlas pixels, layer [M], is_head [M] bool, shade [V] (ambient occlusion factor), gloss [V]
    (specular strength).
    """

    triangles: np.ndarray
    corner_uv: np.ndarray
    layer: np.ndarray
    is_head: np.ndarray
    shade: np.ndarray
    gloss: np.ndarray


@dataclass
class _Builder:
    parts: list = field(default_factory=list)
    n_vertices: int = 0

    def add(self, mesh: geometry.Mesh, n_vertices: int, tile: str, layer: int, is_head: bool, shade=1.0, gloss=0.0, indices=None) -> None:
        """Appends a part with `n_vertices` new vertices.

        `indices` maps its vertex numbers to the figure's if it shares vertices with an earlier part.
        """
        numbers = np.arange(self.n_vertices, self.n_vertices + n_vertices) if indices is None else indices
        n_triangles = len(mesh.triangles)
        self.parts.append(
            (
                numbers[mesh.triangles],
                tile_uv(tile, mesh.corner_uv),
                np.full(n_triangles, layer),
                np.full(n_triangles, is_head),
                np.broadcast_to(np.asarray(shade, np.float64), (n_vertices,)),
                np.full(n_vertices, gloss),
            )
        )
        self.n_vertices += n_vertices

    def figure(self) -> Figure:
        return Figure(*(np.concatenate(column) for column in zip(*self.parts, strict=True)))


def _ring_fan(vertices: tuple[int, ...]) -> geometry.Mesh:
    """A filled ring of one color."""
    triangles = geometry.fan(np.array(vertices))
    return geometry.Mesh(triangles, np.full((len(triangles), 3, 2), 0.5, np.float32))


class Avatar:
    """One speaker's figure; `pose` computes its vertices for a frame."""

    def __init__(self, speaker: Speaker):
        self.speaker = speaker
        self.rest = geometry.rest_vertices(speaker)
        self._neck, self._neck_head_weight = geometry.neck_vertices(speaker)
        self._torso = np.concatenate([geometry.torso_vertices().reshape(-1, 3), geometry.collar_vertices().reshape(-1, 3)])
        # Parts that move rigidly with the head are attached to the face at rest.
        rigid = [geometry.hair_vertices(self.rest, speaker), geometry.curtain_vertices(speaker)]
        rigid += [geometry.ear_vertices(speaker, side) for side in (-1.0, 1.0)]
        rigid += [geometry.upper_teeth(self.rest)]
        self._rigid = np.concatenate([part.reshape(-1, 3) for part in rigid])
        self._skull_rest = geometry.skull_vertices(self.rest)
        self.figure = self._build()

    def _build(self) -> Figure:
        builder = _Builder()
        builder.add(geometry.Mesh(geometry.skin_triangles(), face_uv()[geometry.skin_triangles()]), 468, "face", HEAD, True, gloss=0.10)
        n_skull = (geometry.SKULL_ROWS - 1) * 36
        skull = np.concatenate([geometry.FACE_OVAL, np.arange(468, 468 + n_skull)])
        builder.add(geometry.skull_mesh(), n_skull, "skull", HEAD, True, indices=skull)
        hair = np.arange(builder.n_vertices, builder.n_vertices + geometry.HAIR_ROWS * geometry.HAIR_COLUMNS)
        for mesh, layer in zip(geometry.hair_meshes(self._rigid), (HAIR_BACK, HAIR), strict=True):
            builder.add(mesh, hair.size if layer == HAIR_BACK else 0, "hair", layer, True, gloss=0.07, indices=hair)
        curtain_size = geometry.CURTAIN_ROWS * geometry.CURTAIN_COLUMNS
        if self.speaker.hair_length > geometry.LONG_HAIR:
            curtain = geometry.curtain_mesh()
            both_sides = geometry.Mesh(
                np.concatenate([curtain.triangles, curtain.triangles[:, ::-1]]),
                np.concatenate([curtain.corner_uv, curtain.corner_uv[:, ::-1]]),
            )
            builder.add(both_sides, curtain_size, "curtain", BEHIND, True, shade=0.9)
        else:
            builder.add(geometry.Mesh(np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32)), curtain_size, "curtain", BEHIND, True)
        for side in (-1.0, 1.0):
            builder.add(geometry.ear_mesh(side), geometry.EAR_ROWS * geometry.EAR_COLUMNS, "ear", HEAD, True, gloss=0.06)
        n_teeth = geometry.TEETH_ROWS * geometry.TEETH_COLUMNS
        builder.add(geometry.teeth_mesh(), n_teeth, "upper_teeth", OPENING_FRONT, True, shade=0.82, gloss=0.1)
        builder.add(geometry.teeth_mesh(), n_teeth, "lower_teeth", OPENING, True, shade=0.68, gloss=0.1)
        builder.add(geometry.tongue_mesh(), geometry.TONGUE_ROWS * geometry.TONGUE_COLUMNS, "tongue", OPENING, True, shade=0.75, gloss=0.1)
        for _ in (0, 1):
            builder.add(geometry.ball_mesh(), geometry.BALL_ROWS * geometry.BALL_COLUMNS, "eye", OPENING, True, gloss=0.1)
        # The back walls of the openings share the face's vertices.
        face = np.arange(468)
        mouth = (*geometry.INNER_UPPER_LIP, *geometry.INNER_LOWER_LIP[::-1][1:-1])
        builder.add(_ring_fan(mouth[::-1]), 0, "mouth", OPENING_BACK, True, indices=face)
        for upper, lower in zip(geometry.UPPER_LIDS, geometry.LOWER_LIDS, strict=True):
            builder.add(_ring_fan((*upper, *lower[::-1][1:-1])[::-1]), 0, "sclera", OPENING_BACK, True, indices=face)
        builder.add(geometry.neck_mesh(), geometry.NECK_ROWS * geometry.NECK_COLUMNS, "neck", BODY, False)
        builder.add(geometry.torso_mesh(), geometry.TORSO_ROWS * geometry.TORSO_COLUMNS, "cloth", BODY, False)
        collar = np.arange(builder.n_vertices, builder.n_vertices + geometry.COLLAR_ROWS * geometry.TORSO_COLUMNS)
        for mesh, layer in zip(geometry.collar_meshes(), (BEHIND, COLLAR), strict=True):
            builder.add(mesh, collar.size if layer == BEHIND else 0, "collar", layer, False, indices=collar)
        return builder.figure()

    def pose(
        self,
        face: np.ndarray,
        jaw: float,
        tongue: float,
        gaze: np.ndarray,
        rotation: np.ndarray,
        translation: np.ndarray,
        body_translation: np.ndarray,
    ) -> np.ndarray:
        """[V, 3] float64 positions of all vertices in the camera frame, cm.

        Args:
          face: [468, 3] cm in the canonical head frame.
          jaw: 0..1, moves lower teeth and tongue.
          tongue: 0..1, raises the tip.
          gaze: (yaw, pitch) of both eyes, radians.
          rotation: [3, 3] head to camera.
          translation: [3] head to camera, cm.
          body_translation: [3] body frame to camera, cm.
        """
        # The skin under the chin follows the jaw, with a weight that fades towards the neck.
        jaw_weight = (1.0 - np.linspace(0.0, 1.0, geometry.SKULL_ROWS)[1:, None, None]) ** 2
        skull = self._skull_rest + jaw_weight * (face - self.rest)[list(geometry.FACE_OVAL)]
        head = [face, skull.reshape(-1, 3), self._rigid, geometry.lower_teeth(self.rest, jaw).reshape(-1, 3)]
        head += [geometry.tongue_vertices(self.rest, jaw, tongue).reshape(-1, 3)]
        head += [geometry.ball_vertices(self.rest, eye, gaze).reshape(-1, 3) for eye in (0, 1)]
        head_camera = np.concatenate(head) @ rotation.T + translation
        neck_on_body = self._neck + body_translation
        neck_on_head = self._neck @ rotation.T + translation
        head_weight = self._neck_head_weight[..., None]
        neck = (1 - head_weight) * neck_on_body + head_weight * neck_on_head
        return np.concatenate([head_camera, neck.reshape(-1, 3), self._torso + body_translation])


# -------- Head pose and camera
#
# The camera is fixed; its axes are OpenGL's (x right, y up, looking along -z), in cm. A point p of the canonical head frame has camera
# coordinates R (p - PIVOT) + PIVOT + sway + OFFSET; the file format's camera-to-world matrix is the inverse of that, in meters.

FOCAL = 1015.0 / 112.0 / 2.0
"""Focal length in picture widths: 1015 px for the 224 px pictures of the 3D face models that GeneFace uses."""

PIVOT = np.array([0.0, -7.5, -5.5])
"""Center of head rotation: the top of the neck."""

OFFSET = np.array([0.0, 1.2, -182.0])
"""Head and hair fill 56 % of the picture's height at this distance."""


def intrinsics(size: int) -> dict[str, float]:
    """fx, fy, cx, cy in pixels of a picture of `size` x `size`."""
    return {"fx": FOCAL * size, "fy": FOCAL * size, "cx": size / 2.0, "cy": size / 2.0}


def head_rotations(angles: np.ndarray) -> np.ndarray:
    """[T, 3] (yaw, pitch, roll) radians -> [T, 3, 3]: yaw > 0 turns the face to the image's right, pitch > 0 down."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(angles).T, np.cos(angles).T
    zero, one = np.zeros_like(sy), np.ones_like(sy)

    def stack(*rows: list) -> np.ndarray:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    yaw = stack([cy, zero, sy], [zero, one, zero], [-sy, zero, cy])
    pitch = stack([one, zero, zero], [zero, cp, -sp], [zero, sp, cp])
    roll = stack([cr, -sr, zero], [sr, cr, zero], [zero, zero, one])
    return yaw @ pitch @ roll


def head_to_camera(head_motion: HeadMotion) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [T, 3, 3] and translations [T, 3] cm from the head frame to the camera."""
    rotations = head_rotations(head_motion.angles)
    return rotations, PIVOT - rotations @ PIVOT + head_motion.sway + OFFSET


def camera_matrices(head_motion: HeadMotion) -> np.ndarray:
    """[T, 4, 4] float32 camera to world (= canonical head frame), meters, as docs/file-formats.md defines."""
    rotations, translations = head_to_camera(head_motion)
    matrices = np.zeros((len(rotations), 4, 4))
    inverse = rotations.transpose(0, 2, 1)
    matrices[:, :3, :3] = inverse
    matrices[:, :3, 3] = -np.einsum("tij,tj->ti", inverse, translations) / 100.0
    matrices[:, 3, 3] = 1.0
    return matrices.astype(np.float32)


def project(points: np.ndarray, size: int) -> np.ndarray:
    """Camera-frame points [..., 3] cm -> pixels [..., 2] (x right, y down; the first pixel's center is at 0.5)."""
    depth = -points[..., 2]
    x = FOCAL * size * points[..., 0] / depth + size / 2.0
    y = size / 2.0 - FOCAL * size * points[..., 1] / depth
    return np.stack([x, y], axis=-1)


# -------- Triangle rasterizer: painter's algorithm with supersampling
#
# OpenCV draws triangle indices into a buffer, far triangles first, at `SAMPLES` x `SAMPLES` sub-pixels. Every covered sub-pixel then gets
# its triangle's corner attributes (texture coordinates, light), interpolated linearly in screen space: with this long focal length
# perspective correction is not needed. NumPy and OpenCV only, without a z-buffer loop in Python.

SAMPLES = 2
_SHIFT = 4
"""Fractional bits of OpenCV's polygon corners."""

_SLIVER = 0.05
"""Smallest area of a drawn triangle in square pixels."""


def triangle_buffer(points: np.ndarray, triangles: np.ndarray, order: np.ndarray, size: int) -> np.ndarray:
    """[size * SAMPLES, size * SAMPLES] int32: index of the triangle visible in each sub-pixel, -1 for none.

    Args:
      points: [V, 2] pixels in a picture of `size`.
      triangles: [M, 3].
      order: indices of the front-facing triangles in drawing order, far to near.
      size: side of the picture in pixels.
    """
    buffer = np.full((size * SAMPLES, size * SAMPLES), -1, np.int32)
    # OpenCV's integer coordinates are pixel centers, `points` counts from pixel edges.
    corners = np.round((points * SAMPLES - 0.5) * (1 << _SHIFT)).astype(np.int32)[triangles[order]]
    for index, corner in zip(order.tolist(), corners, strict=True):
        cv2.fillConvexPoly(buffer, corner, index, cv2.LINE_8, _SHIFT)
    return buffer


def visible_order(points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Indices of the front-facing triangles, sorted by layer, then from far to near.

    Args:
      points: [V, 2] pixels, y down.
      depth: [V] distance from the camera.
      triangles: [M, 3], counter-clockwise from outside.
      layer: [M] integers; a higher layer covers a lower one at any depth.
    """
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    facing = np.flatnonzero(area < -_SLIVER)
    mean_depth = depth[triangles[facing]].mean(axis=1)
    return facing[np.lexsort((-mean_depth, layer[facing]))]


def interpolate(buffer: np.ndarray, points: np.ndarray, triangles: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolates attributes at the covered sub-pixels.

    Args:
      buffer: from `triangle_buffer`.
      points: [V, 2] pixels.
      triangles: [M, 3].
      corners: [M, 3, C] attributes at the triangles' corners.

    Returns:
      [N] flat indices of the covered sub-pixels, and [C, N] float32 attributes.
    """
    covered = np.flatnonzero(buffer.ravel() >= 0)
    triangle = np.take(buffer.ravel(), covered)
    plane = _planes(points[triangles] * SAMPLES, corners)
    row, column = np.divmod(covered.astype(np.int32), np.int32(buffer.shape[1]))
    x, y = column.astype(np.float32) + np.float32(0.5), row.astype(np.float32) + np.float32(0.5)
    values = np.empty((corners.shape[2], len(covered)), np.float32)
    for channel in range(corners.shape[2]):
        slope_x, slope_y, offset = (np.take(plane[channel, i], triangle) for i in range(3))
        slope_x *= x
        slope_y *= y
        offset += slope_x
        offset += slope_y
        values[channel] = offset
    return covered, values


def _planes(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[C, 3, M] float32 coefficients (x, y, 1) of each attribute over each triangle: points [M, 3, 2], corners [M, 3, C]."""
    edge1, edge2 = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    area = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    # The plane of a sliver is so steep that values at its drawn border are extrapolated far: use the mean of its corners.
    steep = np.abs(area) < 2.0
    area = np.where(steep, 1.0, area)
    delta1, delta2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    slope_x = (delta1 * edge2[:, 1:2] - delta2 * edge1[:, 1:2]) / area[:, None]
    slope_y = (delta2 * edge1[:, 0:1] - delta1 * edge2[:, 0:1]) / area[:, None]
    slope_x[steep], slope_y[steep] = 0.0, 0.0
    center = points.mean(axis=1)
    offset = corners.mean(axis=1) - slope_x * center[:, :1] - slope_y * center[:, 1:]
    return np.ascontiguousarray(np.stack([slope_x, slope_y, offset]).transpose(2, 0, 1), np.float32)


# -------- Background: an out-of-focus room

_BLUR = 1.0 / 70.0
"""Standard deviation of the lens blur in picture widths."""


def make_background(speaker: Speaker, size: int) -> np.ndarray:
    """[size, size, 3] uint8 RGB: a wall lit from a window, with a bookshelf, blurred, with vignetting."""
    generator = np.random.default_rng([speaker.seed, 4])
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    wall = np.array(speaker.wall, np.float32)
    image = wall * (1.0 - 0.20 * x - 0.10 * y)[..., None]

    def box(x0: float, y0: float, x1: float, y1: float, color: np.ndarray) -> None:
        image[int(y0 * size) : int(y1 * size), int(x0 * size) : int(x1 * size)] = color

    frame = 0.5 * wall + 0.5 * np.array([214, 208, 200])
    box(0.02, 0.04, 0.25, 0.47, frame)
    box(0.04, 0.06, 0.23, 0.45, np.array([214, 224, 230]))
    box(0.128, 0.04, 0.142, 0.47, frame)
    box(0.02, 0.245, 0.25, 0.262, frame)
    box(0.0, 0.47, 0.27, 0.49, 0.85 * frame)
    box(0.74, 0.335, 1.0, 0.36, np.array([92, 72, 54]))
    box(0.74, 0.36, 1.0, 0.40, image[int(0.38 * size), int(0.9 * size)] * 0.82)
    left = 0.765
    while left < 0.99:
        width, height = generator.uniform(0.016, 0.034), generator.uniform(0.11, 0.17)
        # Faded covers, close to a warm gray.
        box(left, 0.335 - height, left + width, 0.335, 0.3 * generator.uniform(40, 190, 3) + 0.7 * np.array([104, 94, 82]))
        left += width + 0.003
    image = cv2.GaussianBlur(image, (0, 0), _BLUR * size, borderType=cv2.BORDER_REPLICATE)
    glow = np.exp(-(((x - 0.13) / 0.30) ** 2) - ((y - 0.27) / 0.38) ** 2)
    corners = 1.0 - 0.34 * np.clip(np.hypot(x - 0.42, 0.85 * (y - 0.42)) - 0.18, 0.0, None)
    image = image * corners[..., None] + 14.0 * glow[..., None] * np.array([1.0, 0.98, 0.92], np.float32)
    image += generator.normal(0.0, 1.2, (size, size, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


# -------- Shading and compositing

AMBIENT, KEY, FILL, RIM = 0.40, 0.60, 0.14, 0.16
KEY_DIRECTION = np.array([-0.42, 0.52, 0.74])
FILL_DIRECTION = np.array([0.75, 0.05, 0.55])
RIM_DIRECTION = np.array([0.80, 0.35, -0.45])
SHININESS = 18.0
_DARKEST, _LIGHT_LIMIT, _HIGHLIGHT_LIMIT = 0.15, 1.15, 0.12
"""Limits of light and highlight: interpolation overshoots at outlines and would leave bright or dark dots."""

EYE_CONTACT = 0.75
"""Fraction of a head rotation that the eyes compensate to keep looking at the camera."""


class Renderer:
    """Renders frames of one speaker at one size; about 33 ms of one CPU core per frame at 512."""

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
        rotations, translations = head_to_camera(performance.head_motion)
        jaw, tongue = (performance.mouth[:, PARAMETERS.index(name)] for name in ("jaw", "tongue"))
        for t, face in enumerate(performance.vertices.astype(np.float64)):
            yaw, pitch, _ = performance.head_motion.angles[t]
            gaze = np.array([-EYE_CONTACT * yaw, -EYE_CONTACT * pitch])
            body_translation = performance.head_motion.sway[t] + OFFSET
            vertices = self.avatar.pose(face, float(jaw[t]), float(tongue[t]), gaze, rotations[t], translations[t], body_translation)
            yield self.draw(vertices)

    def draw(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Camera-frame vertices [V, 3] of the figure -> image and head mask."""
        figure = self.avatar.figure
        points = project(vertices, self.size)
        order = visible_order(points, -vertices[:, 2], figure.triangles, figure.layer)
        buffer = triangle_buffer(points, figure.triangles, order, self.size)
        light, highlight = self._light(vertices)
        corners = np.concatenate([figure.corner_uv, light[figure.triangles][..., None], highlight[figure.triangles][..., None]], axis=-1)
        covered, (u, v, light, highlight) = interpolate(buffer, points, figure.triangles, corners)
        # OpenCV's arithmetic processes interleaved channels in one pass and saturates.
        u, v, light, highlight = (
            _in_rows(values) for values in (u, v, np.clip(light, _DARKEST, _LIGHT_LIMIT), 255.0 * np.clip(highlight, 0.0, _HIGHLIGHT_LIMIT))
        )
        albedo = cv2.remap(self._atlas, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        level = cv2.convertScaleAbs(light, alpha=255.0 / _LIGHT_LIMIT)
        lit = cv2.multiply(albedo, cv2.LUT(cv2.merge([level] * 3), self._tint), dtype=cv2.CV_32F)
        color = cv2.add(lit, cv2.merge([highlight] * 3), dtype=cv2.CV_8U)
        canvas = self._canvas.copy()
        canvas.reshape(-1, 3)[covered] = color.reshape(-1, 3)[: len(covered)]
        image = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        in_head = np.append(np.where(figure.is_head, np.uint8(255), np.uint8(0)), np.uint8(0))
        mask = cv2.resize(in_head[buffer], (self.size, self.size), interpolation=cv2.INTER_AREA)
        return image, mask

    def _light(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[V] diffuse factor and [V] highlight of a soft key light, a weaker fill light and a rim light, all fixed in the room."""
        figure = self.avatar.figure
        normals, _ = vertex_normals(vertices, figure.triangles)
        key = np.clip((normals @ self._key + 0.25) / 1.25, 0.0, 1.0)
        fill = np.clip(normals @ self._fill, 0.0, 1.0)
        rim = np.clip(normals @ self._rim, 0.0, 1.0)
        light = figure.shade * (AMBIENT + KEY * key + FILL * fill + RIM * rim)
        highlight = figure.gloss * np.clip(normals @ self._half, 0.0, 1.0) ** SHININESS
        return light, highlight


def _light_tint() -> np.ndarray:
    """[1, 256, 3] float32 RGB factor for a light level 0..`_LIGHT_LIMIT`: shadows are warmer than lit areas."""
    level = np.linspace(0.0, _LIGHT_LIMIT, 256)
    shadow = np.clip(1.0 - level, 0.0, 1.0)
    return (level[:, None] * (1.0 + shadow[:, None] * np.array([0.14, 0.0, -0.05])))[None].astype(np.float32)


def _in_rows(values: np.ndarray) -> np.ndarray:
    """[N] -> [R, 1024], padded by repetition: OpenCV limits an image's sides to 32767."""
    n_rows = -(-len(values) // 1024)
    return np.resize(values, (n_rows, 1024)).astype(np.float32, copy=False)
